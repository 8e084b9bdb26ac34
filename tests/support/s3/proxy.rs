//! A proxy in front of a real S3 server that misbehaves as a test wants: it refuses, delays, throttles and cuts, and
//! remembers the requests that it has seen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as the service sees it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The number of its connection, from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Lower-case names.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it names an object, not the bucket.
    pub(crate) fn of_object(&self) -> bool {
        self.target.split('?').next().unwrap().trim_matches('/').contains('/')
    }

    pub(crate) fn is_part(&self) -> bool {
        self.method == "PUT" && self.target.contains("partNumber=")
    }

    pub(crate) fn is_completion(&self) -> bool {
        self.method == "POST" && self.target.contains("uploadId=")
    }
}

/// A response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Without `Content-Length`.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The length that a response to HEAD states.
    pub(crate) head_length: Option<usize>,
}

impl Reply {
    /// An error in S3's form; `more` is further XML.
    pub(crate) fn error(status: u16, code: &str, message: &str, more: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}\
             <RequestId>4442587FB7D0A2F9</RequestId></Error>"
        );
        Self { status, body: body.into_bytes(), ..Self::default() }
            .with("Content-Type", "application/xml")
    }

    /// A response with this text.
    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self { status, body: body.as_bytes().to_vec(), ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What the proxy does with a request.
pub(crate) enum Fate {
    Pass,
    /// Passes the request after these changes of it and of its response.
    PassChanged(Box<dyn FnOnce(&mut Seen) + Send>, Box<dyn FnOnce(&mut Reply) + Send>),
    Refuse(Reply),
    /// Cuts the connection without passing the request on.
    Cut,
    /// Passes the request on and cuts the connection instead of responding.
    LoseReply,
    /// Passes the request on and cuts the connection after so many bytes of the body.
    CutBody(usize),
    /// Passes the response on after this time.
    Delay(Duration),
    /// Passes the response on in pieces of so many bytes, each after 5 ms.
    Drip(usize),
}

type Decide = Box<dyn FnMut(&Seen) -> Fate + Send>;

/// The proxy. It listens until it is dropped.
pub(crate) struct FaultyS3 {
    port: u16,
    stops: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl FaultyS3 {
    /// Listens at a free port of 127.0.0.1 in front of this one.
    pub(crate) fn start(server: u16, decide: impl FnMut(&Seen) -> Fate + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { port, stops: Arc::default(), seen: Arc::default() };
        let (stops, seen) = (Arc::clone(&proxy.stops), Arc::clone(&proxy.seen));
        let decide: Arc<Mutex<Decide>> = Arc::new(Mutex::new(Box::new(decide)));
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                if stops.load(Ordering::SeqCst) {
                    return;
                }
                let (decide, seen) = (Arc::clone(&decide), Arc::clone(&seen));
                std::thread::spawn(move || serve(&client.unwrap(), server, number, &decide, &seen));
            }
        });
        proxy
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The requests so far, without their bodies.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for FaultyS3 {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

/// Serves a connection until one side ends it.
fn serve(
    client: &TcpStream,
    server: u16,
    connection: usize,
    decide: &Mutex<Decide>,
    seen: &Mutex<Vec<Seen>>,
) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    while let Some(mut request) = read_request(&mut reader, connection) {
        let fate = decide.lock().unwrap()(&request);
        seen.lock().unwrap().push(Seen { body: Vec::new(), ..request.clone() });
        let is_head = request.method == "HEAD";
        let pass = |request: &Seen| forward(server, request);
        let sent = match fate {
            Fate::Pass => {
                pass(&request).and_then(|reply| send(client, &reply, is_head, usize::MAX))
            }
            Fate::PassChanged(change, change_reply) => {
                change(&mut request);
                pass(&request).and_then(|mut reply| {
                    change_reply(&mut reply);
                    send(client, &reply, is_head, usize::MAX)
                })
            }
            Fate::Refuse(reply) => send(client, &reply, is_head, usize::MAX),
            Fate::Cut => None,
            Fate::LoseReply => pass(&request).and(None),
            Fate::CutBody(bytes) => {
                pass(&request).and_then(|reply| send(client, &reply, is_head, bytes)).and(None)
            }
            Fate::Delay(by) => pass(&request).and_then(|reply| {
                pause(by);
                send(client, &reply, is_head, usize::MAX)
            }),
            Fate::Drip(bytes) => pass(&request).and_then(|reply| drip(client, &reply, bytes)),
        };
        if sent.is_none() {
            client.shutdown(std::net::Shutdown::Both).ok();
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time that a slow service takes")]
fn pause(by: Duration) {
    std::thread::sleep(by);
}

type Headers = Vec<(String, String)>;

/// The first line and the headers of a message; `None` at the end of a connection.
fn read_head(reader: &mut impl BufRead) -> Option<(String, Headers)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some((first.trim_end().to_owned(), headers));
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn length(headers: &Headers) -> Option<usize> {
    let header = headers.iter().find(|(name, _)| name == "content-length");
    header.map(|(_, value)| value.parse().unwrap())
}

fn read_request(reader: &mut impl BufRead, connection: usize) -> Option<Seen> {
    let (first, headers) = read_head(reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut body = vec![0; length(&headers).unwrap_or_default()];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { connection, method, target, headers, body })
}

/// Sends the request to the server over a connection of its own.
fn forward(server: u16, request: &Seen) -> Option<Reply> {
    let mut stream = TcpStream::connect(("127.0.0.1", server)).ok()?;
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&request.body).ok()?;
    let mut reader = BufReader::new(stream);
    let (mut first, mut headers) = read_head(&mut reader)?;
    while first.contains(" 100 ") {
        (first, headers) = read_head(&mut reader)?;
    }
    let status = first.split(' ').nth(1)?.parse().unwrap();
    let chunked =
        headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = match length(&headers) {
        _ if request.method == "HEAD" => Vec::new(),
        Some(length) => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            body
        }
        None if chunked => read_chunks(&mut reader)?,
        None => {
            let mut body = Vec::new();
            reader.read_to_end(&mut body).ok()?;
            body
        }
    };
    let head_length = length(&headers).filter(|_| request.method == "HEAD");
    headers.retain(|(name, _)| {
        !["content-length", "transfer-encoding", "connection"].contains(&name.as_str())
    });
    Some(Reply { status, headers, body, head_length })
}

fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim_end().split(';').next()?, 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn head(reply: &Reply) -> String {
    let mut head = format!("HTTP/1.1 {} Text\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if reply.status != 204 {
        let length = reply.head_length.unwrap_or(reply.body.len());
        head += &format!("content-length: {length}\r\n");
    }
    head + "\r\n"
}

/// Sends at most so many bytes of the body.
fn send(mut client: &TcpStream, reply: &Reply, is_head: bool, bytes: usize) -> Option<()> {
    client.write_all(head(reply).as_bytes()).ok()?;
    if is_head || reply.status == 204 {
        return Some(());
    }
    client.write_all(&reply.body[..bytes.min(reply.body.len())]).ok()
}

fn drip(mut client: &TcpStream, reply: &Reply, bytes: usize) -> Option<()> {
    client.write_all(head(reply).as_bytes()).ok()?;
    for piece in reply.body.chunks(bytes) {
        pause(Duration::from_millis(5));
        client.write_all(piece).ok()?;
    }
    Some(())
}
