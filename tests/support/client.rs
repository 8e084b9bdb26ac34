//! A client of the public API, as simple as `curl`: JSON over HTTP, one call at a time.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

/// Longer than the 15 s for which the server itself repeats a write.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// A client with or without a bearer token.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// A logged-in user.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) login: String,
    pub(crate) client: Client,
}

/// What went wrong with a call.
pub(crate) enum CallError {
    /// No complete response arrived: whether the call took effect is unknown.
    Cut(ureq::Error),
    /// The server refused the call.
    Refused { status: u16, body: Value },
}

impl fmt::Debug for CallError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(error) => write!(out, "cut: {error}"),
            Self::Refused { status, body } => write!(out, "{status} {body}"),
        }
    }
}

impl CallError {
    /// Whether the same call may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Cut(_) => true,
            Self::Refused { status, .. } => matches!(status, 429 | 503 | 504),
        }
    }
}

/// A message as a timeline shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) author: String,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(CALL_TIMEOUT))
            .timeout_connect(Some(Duration::from_secs(5)))
            .proxy(None)
            .build();
        Self { agent: config.into(), base: format!("http://127.0.0.1:{port}"), token: None }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Status and body of a GET.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String), ureq::Error> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.call()?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }

    /// The body of a GET that succeeds.
    pub(crate) fn get_bytes(&self, path: &str) -> Result<Vec<u8>, CallError> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        bytes_of(request.call())
    }

    /// Where a GET is redirected to; `None`: nowhere.
    pub(crate) fn redirect(&self, path: &str) -> Option<String> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.config().max_redirects(0).build().call().unwrap();
        match response.status().as_u16() {
            200 => None,
            307 => Some(response.headers()["location"].to_str().unwrap().to_owned()),
            other => panic!("{path}: {other}"),
        }
    }

    /// The headers of the response to a GET.
    pub(crate) fn headers(&self, path: &str) -> Result<ureq::http::HeaderMap, ureq::Error> {
        Ok(self.agent.get(format!("{}{path}", self.base)).call()?.headers().clone())
    }

    /// Sends bytes with a PUT that succeeds.
    pub(crate) fn put_bytes(&self, path: &str, bytes: &[u8]) -> Result<Vec<u8>, CallError> {
        let mut request = self.agent.put(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        bytes_of(request.send(bytes))
    }

    pub(crate) fn readyz(&self) -> Result<(u16, String), ureq::Error> {
        self.get("/readyz")
    }

    /// Posts JSON and returns the JSON of the response.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.post_with(path, body, &[])
    }

    /// Like `post`, with additional headers.
    pub(crate) fn post_with(
        &self,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Result<Value, CallError> {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send_json(body).map_err(CallError::Cut)?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(CallError::Cut)?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if status == 200 { Ok(body) } else { Err(CallError::Refused { status, body }) }
    }

    /// A method of the public API: `call("RoomService/JoinRoom", …)`.
    pub(crate) fn call(&self, method: &str, body: &Value) -> Result<Value, CallError> {
        self.post(&format!("/api/connect/chatto.api.v1.{method}"), body)
    }

    /// Redeems a setup or join link: creates the account.
    pub(crate) fn set_up(&self, token: &str, login: &str) -> Account {
        let response = self
            .post(
                "/auth/setup",
                &json!({"token": token, "login": login, "displayName": login,
                        "password": password(login)}),
            )
            .unwrap();
        self.account(login, &response)
    }

    /// Logs in with the password `set_up` gave.
    pub(crate) fn log_in(&self, login: &str) -> Account {
        let response = self
            .post("/auth/login", &json!({"identifier": login, "password": password(login)}))
            .unwrap();
        self.account(login, &response)
    }

    fn account(&self, login: &str, response: &Value) -> Account {
        let token = response["token"].as_str().expect("a token");
        Account {
            id: response["user"]["id"].as_str().expect("a user id").to_owned(),
            login: login.to_owned(),
            client: self.with_token(token),
        }
    }
}

impl Account {
    /// Creates another account through a join link (owners only).
    pub(crate) fn invite(&self, login: &str) -> Account {
        let response = self.client.post("/auth/join-links", &json!({})).unwrap();
        let token = response["url"].as_str().unwrap().split('#').nth(1).unwrap();
        Client { token: None, ..self.client.clone() }.set_up(token, login)
    }

    /// The id of a room that everybody can see.
    pub(crate) fn room(&self, name: &str) -> String {
        let response = self.client.call("RoomDirectoryService/ListRooms", &json!({})).unwrap();
        let rooms = response["rooms"].as_array().expect("rooms");
        let room = rooms.iter().find(|room| room["room"]["name"] == name).expect("the room");
        room["room"]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn join(&self, room: &str) {
        self.client.call("RoomService/JoinRoom", &json!({"roomId": room})).unwrap();
    }

    /// One attempt to post.
    pub(crate) fn post(&self, room: &str, body: &str, key: &str) -> Result<String, CallError> {
        let response = self.client.post_with(
            "/api/connect/chatto.api.v1.MessageService/CreateMessage",
            &json!({"roomId": room, "body": body}),
            &[("Idempotency-Key", key)],
        )?;
        Ok(response["message"]["id"].as_str().expect("a message id").to_owned())
    }

    /// Every message of a room, oldest first, read page by page from the newest.
    #[track_caller]
    pub(crate) fn history(&self, room: &str) -> Vec<Message> {
        self.try_history(room).unwrap()
    }

    /// Like `history`, but returns the error of the first refused page.
    pub(crate) fn try_history(&self, room: &str) -> Result<Vec<Message>, CallError> {
        let mut pages = Vec::new();
        let mut before: Option<String> = None;
        loop {
            let mut request = json!({"roomId": room, "limit": 100});
            if let Some(cursor) = &before {
                request["before"] = Value::String(cursor.clone());
            }
            let response = self.client.call("RoomService/GetRoomEvents", &request)?;
            let page = &response["page"];
            let events = page["events"].as_array().cloned().unwrap_or_default();
            pages.push(events.iter().filter_map(message).collect::<Vec<_>>());
            if page["hasOlder"] != true {
                break;
            }
            before = Some(page["startCursor"].as_str().expect("a cursor").to_owned());
        }
        Ok(pages.into_iter().rev().flatten().collect())
    }
}

fn message(event: &Value) -> Option<Message> {
    let message = event["messagePosted"].as_object()?.get("message")?;
    let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
    Some(Message { id: text("id"), author: text("actorId"), body: text("body") })
}

fn password(login: &str) -> String {
    format!("the password of {login}")
}

/// The body of a response with status 200.
fn bytes_of(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Vec<u8>, CallError> {
    let mut response = response.map_err(CallError::Cut)?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(64 << 20).read_to_vec();
    let body = body.map_err(CallError::Cut)?;
    if status == 200 {
        return Ok(body);
    }
    let body = String::from_utf8_lossy(&body).into_owned().into();
    Err(CallError::Refused { status, body })
}
