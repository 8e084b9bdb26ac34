//! The operator's methods: the same functions over the socket and without a server.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Exit, OperatorError, SCHEMA, StatusSource, VERSION};
use crate::limits::PAGE_LIMIT_MAX;
use crate::observe::rfc3339;
use crate::service::{
    AccountView, ErrorKind, JoinFields, LinkError, LinkView, ManageAccountError, NewUser, OpenLink,
    PageRequest, Service,
};

/// What the operations work on.
#[derive(Clone)]
pub struct OperatorParts {
    pub service: Service,
    /// The origin that links start with: `https://chat.example.org`.
    pub public_url: String,
    /// The source of status reports; `None` without a server.
    pub status: Option<StatusSource>,
}

/// The operations. Clones share everything.
#[derive(Clone)]
pub struct Operations {
    parts: OperatorParts,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserCreate {
    #[serde(default)]
    link: bool,
    login: Option<String>,
    display_name: Option<String>,
    email: Option<String>,
    role: Option<String>,
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InviteRevoke {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserList {
    #[serde(default)]
    search: String,
    #[serde(default)]
    limit: usize,
    #[serde(default)]
    offset: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserSetPassword {
    login: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserRole {
    login: String,
    role: String,
    action: RoleAction,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleAction {
    Add,
    Remove,
}

impl Operations {
    /// On these parts.
    #[must_use]
    pub fn new(parts: OperatorParts) -> Self {
        Self { parts }
    }

    /// Whether the server has an owner.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.parts.service.accounts().has_owner()
    }

    /// Runs a method. `params` is an object with `schema`, `version` and the method's own
    /// fields.
    ///
    /// # Errors
    /// The refusal for the caller.
    ///
    /// # Cancel safety
    /// As with the service's functions, a change is complete or did not happen.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, OperatorError> {
        let params = check_version(method, params)?;
        match method {
            "status" => {
                let NoParams {} = parse_params(params)?;
                self.status().await
            }
            "assets.begin" => super::assets::begin(&self.parts.service, params).await,
            "assets.step" => super::assets::step(&self.parts.service, params).await,
            "backup.prepare" => {
                let NoParams {} = parse_params(params)?;
                let prepared = self.parts.service.prepare_backup().await;
                prepared.map_err(|error| operator_error(error.kind(), &error, None))?;
                Ok(json!({}))
            }
            "setup-link" => {
                let NoParams {} = parse_params(params)?;
                let link = self.parts.service.links().setup_link().await.map_err(link_error)?;
                Ok(self.link(&link))
            }
            "invite.list" => {
                let NoParams {} = parse_params(params)?;
                let links = self.parts.service.links().operator_join_links().await;
                let links = links.map_err(link_error)?;
                Ok(json!({ "links": links.iter().map(open_link).collect::<Vec<Value>>() }))
            }
            "invite.revoke" => {
                let InviteRevoke { id } = parse_params(params)?;
                let revoked = self.parts.service.links().operator_revoke_join_link(&id).await;
                revoked.map_err(link_error)?;
                Ok(json!({ "id": id }))
            }
            "user.create" => self.user_create(parse_params(params)?).await,
            "user.list" => {
                let list: UserList = parse_params(params)?;
                let page =
                    PageRequest { limit: list.limit.min(PAGE_LIMIT_MAX), offset: list.offset };
                let page = self.parts.service.accounts().list(&list.search, page).await;
                let users: Vec<Value> = page.items.iter().map(account).collect();
                Ok(json!({ "users": users, "total": page.total, "has_more": page.has_more }))
            }
            "user.set-password" => {
                let set: UserSetPassword = parse_params(params)?;
                let done =
                    self.parts.service.accounts().set_password(&set.login, &set.password).await;
                done.map(|view| account(&view)).map_err(|error| account_error(&error, &set.login))
            }
            "user.role" => {
                let UserRole { login, role, action } = parse_params(params)?;
                let done = match action {
                    RoleAction::Add => self.parts.service.accounts().add_role(&login, &role).await,
                    RoleAction::Remove => {
                        self.parts.service.accounts().remove_role(&login, &role).await
                    }
                };
                let view = done.map_err(|error| account_error(&error, &login))?;
                let mut result = account(&view);
                if let Value::Object(fields) = &mut result {
                    fields.insert("server_has_owner".to_owned(), self.has_owner().into());
                }
                Ok(result)
            }
            _ => Err(OperatorError::new(
                "unknown_method",
                Exit::Failed,
                format!("the server (chatto {VERSION}) has no method {method}"),
            )),
        }
    }

    async fn status(&self) -> Result<Value, OperatorError> {
        match &self.parts.status {
            Some(source) => serde_json::to_value(source().await).map_err(|error| internal(&error)),
            None => {
                Err(OperatorError::new("unavailable", Exit::Unreachable, "no server is running"))
            }
        }
    }

    async fn user_create(&self, new: UserCreate) -> Result<Value, OperatorError> {
        if new.link {
            if new.password.is_some() {
                let message = "a join link and a password cannot be combined";
                return Err(OperatorError::new("invalid_argument", Exit::Usage, message));
            }
            let fields = JoinFields {
                login: new.login,
                display_name: new.display_name,
                email: new.email,
                role: new.role,
            };
            let link =
                self.parts.service.links().operator_join_link(fields).await.map_err(link_error)?;
            return Ok(self.link(&link));
        }
        let needed = |what: &str| {
            OperatorError::new("invalid_argument", Exit::Usage, format!("a {what} is required"))
        };
        let login = new.login.ok_or_else(|| needed("login"))?;
        let password = new.password.ok_or_else(|| needed("password"))?;
        let new = NewUser {
            login: &login,
            display_name: new.display_name.as_deref(),
            email: new.email.as_deref(),
            role: new.role.as_deref(),
            password: &password,
        };
        let made = self.parts.service.accounts().create(new).await;
        made.map(|view| account(&view)).map_err(|error| account_error(&error, &login))
    }

    fn link(&self, link: &LinkView) -> Value {
        let url = format!("{}{}", self.parts.public_url, link.path);
        json!({ "id": link.id, "url": url, "expires_at": rfc3339(link.expires_ms) })
    }
}

fn open_link(link: &OpenLink) -> Value {
    json!({
        "id": link.id,
        "created_by": link.maker.as_ref().map(|(_, login)| login),
        "created_at": rfc3339(link.created_ms),
        "expires_at": rfc3339(link.expires_ms),
        "login": link.content.login,
        "display_name": link.content.display_name,
        "email": link.content.email,
        "role": link.content.role,
    })
}

fn account(view: &AccountView) -> Value {
    let emails: Vec<Value> = view
        .emails
        .iter()
        .map(|(address, verified)| json!({ "address": address, "verified": verified }))
        .collect();
    json!({
        "id": view.user.id.as_str(),
        "login": view.user.login,
        "display_name": view.user.display_name,
        "roles": view.roles,
        "emails": emails,
        "created_at": rfc3339(view.created_ms),
    })
}

/// Removes `schema` and `version` from the parameters and compares them with ours.
fn check_version(method: &str, mut params: Value) -> Result<Value, OperatorError> {
    let fields = params.as_object_mut().ok_or_else(|| {
        OperatorError::new("bad_request", Exit::Usage, "the parameters must be a JSON object")
    })?;
    let schema = fields.remove("schema").and_then(|schema| schema.as_u64());
    let version = fields.remove("version");
    let version = version.as_ref().and_then(Value::as_str).unwrap_or("unknown");
    // `status` is how one finds out which server is running.
    if schema == Some(SCHEMA) && (version == VERSION || method == "status") {
        return Ok(params);
    }
    let message = format!(
        "this command is chatto {version}, but the running server is chatto {VERSION}; restart the \
         server, or use its own version of the command"
    );
    Err(OperatorError::new("version_mismatch", Exit::Failed, message))
}

/// The parameters of a method. The error never shows a value: it may be a password.
pub(super) fn parse_params<T: DeserializeOwned>(params: Value) -> Result<T, OperatorError> {
    serde_json::from_value(params).map_err(|_| {
        OperatorError::new("bad_request", Exit::Usage, "the parameters do not match the method")
    })
}

fn internal(error: &(dyn std::error::Error + 'static)) -> OperatorError {
    log::error!(error:err = *error; "an operator request failed");
    OperatorError::new("internal", Exit::Failed, "an internal error occurred. See the server's log")
}

fn link_error(error: LinkError) -> OperatorError {
    match &error {
        LinkError::OwnerExists => OperatorError::new(
            "already_exists",
            Exit::Exists,
            "this server already has an owner; `chatto user create --link --role owner` creates a \
             link for another one",
        ),
        LinkError::Denied | LinkError::Unknown | LinkError::Account(_) | LinkError::Store(_) => {
            operator_error(error.kind(), &error, None)
        }
    }
}

fn account_error(error: &ManageAccountError, login: &str) -> OperatorError {
    operator_error(error.kind(), error, Some(login))
}

pub(super) fn operator_error(
    kind: ErrorKind,
    error: &(dyn std::error::Error + 'static),
    login: Option<&str>,
) -> OperatorError {
    let (code, exit) = match kind {
        ErrorKind::NotFound => ("not_found", Exit::Failed),
        ErrorKind::AlreadyExists => ("already_exists", Exit::Exists),
        ErrorKind::InvalidArgument => ("invalid_argument", Exit::Usage),
        ErrorKind::FailedPrecondition
        | ErrorKind::Undecryptable
        | ErrorKind::PermissionDenied
        | ErrorKind::Unauthenticated => ("failed_precondition", Exit::Failed),
        ErrorKind::ResourceExhausted => ("unavailable", Exit::TryAgain),
        ErrorKind::Unavailable => ("unavailable", Exit::Unreachable),
        ErrorKind::DiskFull | ErrorKind::DiskLow | ErrorKind::DiskError => {
            ("unavailable", Exit::Io)
        }
        ErrorKind::Unimplemented => ("unimplemented", Exit::Failed),
        ErrorKind::Internal => return internal(error),
    };
    let message = match login {
        Some(login) => format!("{login}: {error}"),
        None => error.to_string(),
    };
    OperatorError::new(code, exit, message)
}
