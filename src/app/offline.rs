//! Operations without a running server: lock the data directory and start a private nats-server, or connect
//! to the cluster, do the work, and leave everything as it was.

use serde_json::Value;

use crate::config::Settings;
use crate::limits::STORE_COMMAND_TIMEOUT;
use crate::nats::ConnectError;
use crate::operator::{Operations, OperatorError, OperatorParts};
use crate::runtime::{Clock, Runtime};
use crate::service::Service;

use super::error::AppError;
use super::parts;
use super::reach::Reach;
use super::store::{Create, Store, StoreOpening, secret_key};
use super::swap;

/// The function through which a command calls operations, as often as it needs.
pub(super) type Calls<'a> = &'a mut dyn FnMut(&str, Value) -> Result<Value, OperatorError>;

/// Opens the store, lets `work` call operations, and closes the store. Blocks.
///
/// # Errors
/// [`AppError`]: there is no store, another process uses it, or it cannot be opened.
pub fn with_operations<T>(
    settings: &Settings,
    command: &str,
    work: impl FnOnce(Calls<'_>) -> T,
) -> Result<T, AppError> {
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let store = open(settings, command, &runtime, &clock).await?;
        let secret = secret_key(settings)?;
        let service = Service::build(
            parts::service(settings, secret, &clock)?,
            store.storage.clone(),
            clock.clone(),
        );
        let public_url = parts::link_base(settings, settings.webserver.port);
        let operations = Operations::new(OperatorParts { service, public_url, status: None });
        let done = work(&mut |method, mut params| {
            if let Value::Object(fields) = &mut params {
                fields.insert("schema".to_owned(), crate::operator::SCHEMA.into());
                fields.insert("version".to_owned(), crate::operator::VERSION.into());
            }
            // The workers run the store's tasks in the meantime.
            smol::block_on(operations.call(method, params))
        });
        store.close().await;
        Ok(done)
    })
}

async fn open(
    settings: &Settings,
    command: &str,
    runtime: &Runtime,
    clock: &Clock,
) -> Result<Store, AppError> {
    let opening = StoreOpening { settings, create: Create::No, runtime, clock };
    let Some(embedded) = &settings.embedded else {
        let opened = opening.external(|_| {});
        return match clock.timeout(STORE_COMMAND_TIMEOUT, opened).await {
            Ok(opened) => opened,
            Err(elapsed) => Err(ConnectError::Unreachable {
                urls: settings.client.urls.join(", "),
                why: elapsed.to_string(),
            }
            .into()),
        };
    };
    let data_dir = &settings.data_dir;
    if !swap::has_store(data_dir) {
        return Err(AppError::no_data(settings));
    }
    let locked = Reach { settings, command, runtime, clock }.lock().await?;
    opening.embedded(embedded, locked).await
}
