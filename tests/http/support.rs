//! A whole server inside the test, and a client that sends exactly the bytes that the test gives it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use chatto::crypto::Secret;
use chatto::crypto::password::Params;
use chatto::http::{Config, Listener, Parts, Ready, Server, Tls, TlsFiles};
use chatto::media::image;
use chatto::realtime::{HandshakeInfo, Realtime, Socket};
use chatto::runtime::{Clock, Runtime, Scope, Stop};
use chatto::service::{self, Service};
use futures_rustls::rustls::{self, ClientConnection};
use serde_json::{Value, json};

use crate::storage;
use crate::support::images;
use crate::support::nats::NatsServer;

/// How long a test waits for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A running server on a store of its own; dropping it stops it.
pub(super) struct Edge {
    pub(super) address: SocketAddr,
    pub(super) stop: Stop,
    pub(super) ready: Arc<Mutex<Ready>>,
    pub(super) clock: Clock,
    service: Service,
    realtime: Realtime,
    sockets: Scope,
    runtime: Runtime,
    thread: Option<JoinHandle<()>>,
    nats: Arc<NatsServer>,
}

/// The settings of a server for tests.
pub(super) fn service_config() -> service::Config {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    service::Config {
        secret_key: secret(storage::SECRET),
        cookie_signing_secret: secret("signs the cookies of the tests"),
        blobs: crate::support::blobs(),
        upload_streams: 3,
        images: images(),
        asset_signing_secret: secret("signs the addresses of the tests"),
        cookie_encryption_secret: Some(secret("seals the cookies of the tests")),
        session_ttl: Duration::from_secs(90 * 24 * 3600),
        direct_login: true,
        invite_only: false,
        owner_emails: Vec::new(),
        max_users: None,
        max_upload_bytes: 25 << 20,
        password_params: Params::cheapest(),
        password_slots: 1,
    }
}

impl Edge {
    /// Starts with `config` on a free port of 127.0.0.1 and a new store.
    pub(super) fn start(config: Config) -> Self {
        Self::start_on(&Arc::new(NatsServer::start()), config, true, None, service_config())
    }

    /// The same, making images as these settings say.
    pub(super) fn start_with_images(images: image::Config) -> Self {
        Self::start_with(service::Config { images, ..service_config() })
    }

    /// The same with these settings of the service.
    pub(super) fn start_with(settings: service::Config) -> Self {
        Self::start_configured(Config::default(), settings)
    }

    /// The same with settings of both.
    pub(super) fn start_configured(config: Config, settings: service::Config) -> Self {
        Self::start_on(&Arc::new(NatsServer::start()), config, true, None, settings)
    }

    /// The same, speaking TLS alone.
    pub(super) fn start_tls(config: Config, files: TlsFiles) -> Self {
        Self::start_on(&Arc::new(NatsServer::start()), config, true, Some(files), service_config())
    }

    /// Two processes on one store, as with an external NATS.
    pub(super) fn start_two() -> [Self; 2] {
        let nats = Arc::new(NatsServer::start());
        [(); 2].map(|()| Self::start_on(&nats, Config::default(), false, None, service_config()))
    }

    fn start_on(
        nats: &Arc<NatsServer>,
        config: Config,
        embedded: bool,
        files: Option<TlsFiles>,
        settings: service::Config,
    ) -> Self {
        let stop = Stop::new();
        let ready = Arc::new(Mutex::new(Ready::Yes));
        let clock = Clock::system();
        let (tx, rx) = mpsc::channel();
        let (serving, reads) = (stop.clone(), Arc::clone(&ready));
        let (url, time) = (nats.url(), clock.clone());
        let thread = std::thread::spawn(move || {
            Runtime::run(2, |runtime| async move {
                let readiness = Arc::new(move || *reads.lock().unwrap());
                let store = chatto::storage::Config { embedded, ..storage::config(None) };
                let store = Box::pin(storage::open(&url, &runtime, store)).await.unwrap();
                let service = Service::build(settings, store.clone(), time.clone());
                Box::pin(service.prepare()).await.unwrap();
                let realtime = Realtime::build(
                    chatto::realtime::Config::default(),
                    service.clone(),
                    store.clone(),
                    time.clone(),
                );
                let keeper = (realtime.clone(), serving.clone());
                let tasks = Scope::new(&runtime, "test", 4);
                tasks.spawn("realtime", async move { keeper.0.run(&keeper.1).await }).unwrap();
                let parts = Parts {
                    service: service.clone(),
                    realtime: realtime.clone(),
                    readiness,
                    clock: time,
                };
                let server = Server::build(config, parts, &runtime).with_test_routes();
                let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
                let mut listener = Listener::bind(local, 0).await.unwrap();
                if let Some(files) = files {
                    listener = listener.over_tls(Tls::load(files).unwrap());
                }
                tx.send((listener.local_addr(), service, realtime, runtime.clone())).unwrap();
                server.serve(listener, &serving).await;
                store.close().await;
            });
        });
        let (address, service, realtime, runtime) = rx.recv_timeout(PATIENCE).unwrap();
        let sockets = Scope::new(&runtime, "sockets of the test", 64);
        Self {
            address,
            stop,
            ready,
            clock,
            service,
            realtime,
            sockets,
            runtime,
            thread: Some(thread),
            nats: Arc::clone(nats),
        }
    }

    /// The address of the store.
    pub(super) fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// Calls the service in-process, as the operator does.
    pub(super) fn operate<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        call: impl FnOnce(Service) -> F,
    ) -> T {
        let (tx, rx) = mpsc::channel();
        let work = call(self.service.clone());
        let scope = Scope::new(&self.runtime, "operator", 1);
        scope.spawn("operator", async move { tx.send(work.await).unwrap() }).unwrap();
        rx.recv_timeout(PATIENCE).unwrap()
    }

    /// Serves a socket of the test's own.
    pub(super) fn serve(&self, socket: impl Socket + 'static, handshake: HandshakeInfo) {
        let (realtime, stop) = (self.realtime.clone(), self.stop.clone());
        let serving = async move { realtime.serve(socket, handshake, &stop).await };
        self.sockets.spawn("socket", serving).unwrap();
    }

    /// The token of a new setup link.
    pub(super) fn setup_token(&self) -> String {
        let link =
            self.operate(|service| async move { service.links().setup_link().await.unwrap() });
        link.path.strip_prefix("/setup#").unwrap().to_owned()
    }

    /// Creates the first owner and returns its bearer token.
    pub(super) fn owner(&self) -> String {
        let body =
            json!({"token": self.setup_token(), "login": "ada", "password": "correct horse"});
        let response = self.post("/auth/setup", &[], &body);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["token"].as_str().unwrap().to_owned()
    }

    /// Creates another person with a join link of the owner and returns the bearer token.
    pub(super) fn person(&self, owner: &str, login: &str) -> String {
        let bearer = format!("Bearer {owner}");
        let link = self.post("/auth/join-links", &[("Authorization", &bearer)], &json!({}));
        let url = link.json()["url"].as_str().unwrap().to_owned();
        let token = url.split_once("/setup#").unwrap().1;
        let body = json!({"token": token, "login": login, "password": "correct horse"});
        let response = self.post("/auth/setup", &[], &body);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["token"].as_str().unwrap().to_owned()
    }

    /// A JSON call of `Service/Method` of `chatto.api.v1`.
    pub(super) fn call(&self, token: &str, method: &str, body: &Value) -> Response {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        self.post(&format!("/api/connect/chatto.api.v1.{method}"), &headers, body)
    }

    /// The same, which must succeed.
    pub(super) fn call_ok(&self, token: &str, method: &str, body: &Value) -> Value {
        let response = self.call(token, method, body);
        assert_eq!(response.status, 200, "{method}: {}", response.text());
        response.json()
    }

    pub(super) fn connect(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(super) fn exchange(&self, request: &str) -> Response {
        self.connect().exchange(request)
    }

    pub(super) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.exchange(&head("GET", path, headers))
    }

    /// A POST with a JSON body.
    pub(super) fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend_from_slice(headers);
        self.post_bytes(path, &all, body.to_string().as_bytes())
    }

    /// A POST with any body; its length is added.
    pub(super) fn post_bytes(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        all.push(("Content-Length", &length));
        let mut raw = self.connect();
        raw.send(&[head("POST", path, &all).as_bytes(), body].concat());
        raw.response().unwrap()
    }

    /// Waits until the server has ended.
    pub(super) fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The headers that request a WebSocket; the key is RFC 6455's example.
pub(super) const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A client's frame (RFC 6455, 5.2) of up to 125 bytes with this first byte; the mask is zero.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// A request head for `localhost`.
pub(super) fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n"
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A connection.
pub(super) struct Raw {
    pub(super) stream: TcpStream,
    tls: Option<ClientConnection>,
    buffer: Vec<u8>,
}

/// A response as received.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The values of a cookie that the response sets: the value and the whole line.
    pub(super) fn cookie(&self, name: &str) -> Option<(&str, &str)> {
        let lines = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case("set-cookie"));
        let mut values = lines.filter_map(|(_, line)| {
            let value = line.strip_prefix(name)?.strip_prefix('=')?;
            Some((value.split(';').next().unwrap(), line.as_str()))
        });
        values.next()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Raw {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, tls: None, buffer: Vec::new() }
    }

    /// The same through TLS; the handshake comes with the first bytes.
    pub(super) fn over_tls(mut self, tls: ClientConnection) -> Self {
        self.tls = Some(tls);
        self
    }

    pub(super) fn tls(&self) -> &ClientConnection {
        self.tls.as_ref().unwrap()
    }

    /// One request, whose head is all of it.
    pub(super) fn exchange(mut self, request: &str) -> Response {
        self.send(request.as_bytes());
        let method = request.split(' ').next().unwrap();
        self.response_to(method).unwrap()
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    pub(super) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.stream).write_all(bytes),
            None => self.stream.write_all(bytes),
        }
    }

    /// The next response with a body; `None` at the connection's end.
    pub(super) fn response(&mut self) -> Option<Response> {
        self.response_to("GET")
    }

    /// The next response to a request of `method` (HEAD has no body); `None` at the end.
    pub(super) fn response_to(&mut self, method: &str) -> Option<Response> {
        let head_end = loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "cut inside a head");
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..head_end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap())
            .collect();
        let mut response = Response { status, headers, body: Vec::new() };
        let length = response.header("content-length").map_or(0, |v| v.parse().unwrap());
        assert!(response.header("transfer-encoding").is_none(), "no stream is expected here");
        if method != "HEAD" {
            while self.buffer.len() < length {
                assert!(self.fill(), "cut inside a body");
            }
            response.body = self.buffer.drain(..length).collect();
        }
        Some(response)
    }

    /// The next `length` bytes, which are not a response.
    pub(super) fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.fill(), "cut before {length} bytes");
        }
        self.buffer.drain(..length).collect()
    }

    /// Whether the server ends the connection, whatever it sends before.
    pub(super) fn ends(&mut self) -> bool {
        while self.fill() {}
        true
    }

    /// Whether the server closed the connection; waits for it.
    pub(super) fn is_closed(&mut self) -> bool {
        !self.fill()
    }

    /// The next bytes as they come.
    pub(super) fn read(&mut self, chunk: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.stream).read(chunk),
            None => self.stream.read(chunk),
        }
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 8192];
        match self.read(&mut chunk) {
            Ok(0) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("reading failed: {error}"),
        }
    }
}
