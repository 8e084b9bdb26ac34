//! `/healthz` and `/readyz`: no login, no storage, an immediate response.

use hyper::StatusCode;
use serde_json::json;
use tide::Request;

use super::head::Head;
use super::response::Response;
use super::state::App;

/// Whether the server takes requests. `app` composes it; calling it is cheap.
pub type Readiness = std::sync::Arc<dyn Fn() -> Ready + Send + Sync>;

/// See [`Readiness`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// NATS is connected and JetStream responds.
    Yes,
    No {
        /// One of the documented reasons: `starting`, `nats_unreachable`, `no_quorum`,
        /// `store_damaged`, `disk_full`, `disk_error`, `memory_full`, `secrets_mismatch`, `draining`.
        reason: &'static str,
    },
}

/// A request to `/healthz` with this header also gets what the server knows of its client, so that `doctor` can see
/// what a proxy forwards. It is nothing that the client does not know of itself.
pub const DOCTOR_HEADER: &str = "x-chatto-doctor";

/// The process is alive if it can respond at all.
pub(super) async fn healthz(request: Request<App>) -> tide::Result {
    match Head::of(&request) {
        Ok(head) if head.headers.contains_key(DOCTOR_HEADER) => {
            let client = json!({ "status": "ok", "client": head.client, "https": head.is_https });
            Response::json(StatusCode::OK, &client).into()
        }
        _ => alive().into(),
    }
}

/// Whether a load balancer may send requests here.
pub(super) async fn readyz(request: Request<App>) -> tide::Result {
    ready(&request.state().readiness).into()
}

pub(super) fn alive() -> Response {
    Response::json(StatusCode::OK, &json!({ "status": "ok" }))
}

pub(super) fn ready(readiness: &Readiness) -> Response {
    match readiness() {
        Ready::Yes => Response::json(StatusCode::OK, &json!({ "status": "ready" })),
        Ready::No { reason } => {
            let body = json!({ "status": "not ready", "reason": reason });
            Response::json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}
