//! Calls operations: over the socket of the running server, or, when none runs, by locking the data
//! directory for the duration of the command.

use serde_json::Value;

use super::{CliError, Context, Exit};
use crate::app::{self, AppError};
use crate::config::{Purpose, Settings};
use crate::observe;
use crate::operator::{CallError, Client, OperatorError};

/// The function through which a command calls a method with its parameters.
pub(super) type Call<'a> = &'a mut dyn FnMut(&str, Value) -> Result<Value, CliError>;

/// Runs `work` against the running server, or directly on the store.
pub(super) fn with_operations<T>(
    context: &Context,
    command: &str,
    work: impl Fn(Call<'_>) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let settings = context.load(Purpose::Local)?.settings;
    if let Some(client) = running(&settings)? {
        return work(&mut |method, params| Ok(client.call(method, params)?));
    }
    context.log_to_terminal();
    app::with_operations(&settings, command, |call| {
        work(&mut |method, params| Ok(call(method, params)?))
    })?
}

/// A client of the running server, if one listens.
pub(super) fn running(settings: &Settings) -> Result<Option<Client>, CliError> {
    let Some(path) = &settings.operator_socket else { return Ok(None) };
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Ok(Some(Client::new(path))),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(CallError::NotPermitted { path: path.clone() }.into())
        }
        Err(_) => Ok(None),
    }
}

impl From<OperatorError> for CliError {
    fn from(error: OperatorError) -> Self {
        Self::new(error.exit(), error.message)
    }
}

impl From<CallError> for CliError {
    fn from(error: CallError) -> Self {
        let exit = match &error {
            CallError::NotRunning => Exit::Unreachable,
            CallError::NotPermitted { .. } => Exit::Denied,
            CallError::Broken { .. } => Exit::Io,
            CallError::Refused(error) => error.exit(),
        };
        Self::new(exit, observe::chain(&error))
    }
}

impl From<AppError> for CliError {
    fn from(error: AppError) -> Self {
        Self::new(error.exit(), observe::chain(&error))
    }
}
