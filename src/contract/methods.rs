//! What is known about a method before its request is read: who may call it, and how large the request may be.
//!
//! The enum [`Method`] and the types in [`super::rpc`] are generated; this module adds their properties.

use super::codec::Wire;
use super::generated::Method;
use super::rules::Validate;
use crate::limits;

/// What the `.proto` files say about a method.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) service: &'static str,
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) request: &'static str,
    pub(super) response: &'static str,
    pub(super) idempotency: Idempotency,
}

/// What the contract declares about repeats of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// Nothing is declared.
    Unknown,
    /// The call changes nothing; Connect clients may use GET.
    NoSideEffects,
    Idempotent,
}

/// Who may call a method, before any permission is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallAccess {
    /// Anybody; a token inside the request may serve as the credential.
    Public,
    /// Anybody with a valid credential.
    User,
}

/// How large a request may be (contract, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeClass {
    Call,
    /// All of AssetUploadService: a chunk and its envelope.
    AssetUpload,
    /// An image for a user or the server: the general upload limit and its envelope.
    Image,
}

impl SizeClass {
    /// The limit in bytes; `upload_max_bytes` is the general upload limit of the settings.
    #[must_use]
    pub fn max_bytes(self, upload_max_bytes: usize) -> usize {
        match self {
            Self::Call => limits::API_BODY_MAX_BYTES,
            Self::AssetUpload => limits::API_ASSET_UPLOAD_BODY_MAX_BYTES,
            Self::Image => upload_max_bytes.saturating_add(limits::API_IMAGE_ENVELOPE_MAX_BYTES),
        }
    }
}

/// Services that need no credential (contract, section 1).
const PUBLIC_SERVICES: [&str; 3] = [
    "chatto.auth.v1.ExternalIdentityAuthService",
    "chatto.auth.v1.PushSubscriptionCleanupService",
    "chatto.discovery.v1.ServerDiscoveryService",
];

impl Method {
    /// The method at a request path, which is the whole path: `/api/connect/{package}.{Service}/{Method}`.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let position = Self::ALL.binary_search_by(|method| method.path().cmp(path)).ok()?;
        Self::ALL.get(position).copied()
    }

    /// The request path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        self.spec().path
    }

    /// The method's own name: `CreateRoom`. Not unique; [`Method::path`] is.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// The service with its package: `chatto.api.v1.RoomService`.
    #[must_use]
    pub const fn service(self) -> &'static str {
        self.spec().service
    }

    /// Full name of the request message.
    #[must_use]
    pub const fn request(self) -> &'static str {
        self.spec().request
    }

    /// Full name of the response message.
    #[must_use]
    pub const fn response(self) -> &'static str {
        self.spec().response
    }

    /// What the contract declares about repeats.
    #[must_use]
    pub const fn idempotency(self) -> Idempotency {
        self.spec().idempotency
    }

    /// Who may call it.
    #[must_use]
    pub fn access(self) -> CallAccess {
        if PUBLIC_SERVICES.contains(&self.service()) {
            CallAccess::Public
        } else {
            CallAccess::User
        }
    }

    /// How large its request may be.
    #[must_use]
    pub fn size_class(self) -> SizeClass {
        match self {
            Self::MyAccountServiceUploadAvatar
            | Self::AdminServerServiceUploadServerLogo
            | Self::AdminServerServiceUploadServerBanner => SizeClass::Image,
            _ if self.service() == "chatto.api.v1.AssetUploadService" => SizeClass::AssetUpload,
            _ => SizeClass::Call,
        }
    }
}

/// A request message: it can be decoded and has value rules.
pub trait RequestMessage: Wire + Validate {}

impl<M: Wire + Validate> RequestMessage for M {}

/// One method with its types; implemented by the unit types of [`super::rpc`].
///
/// A dispatch table can be filled by type: `register::<rpc::room_service::CreateRoom>(handler)` where the
/// handler takes `R::Request` and gives `R::Response`.
pub trait Rpc: Send + Sync + 'static {
    /// The request message.
    type Request: RequestMessage;
    /// The response message.
    type Response: Wire;
    /// The method itself.
    const METHOD: Method;
}

/// Code that is generic over the types of a method, for [`super::each_method`].
pub trait MethodVisitor {
    /// Takes one method.
    fn visit<R: Rpc>(&mut self);
}

/// Every method and whether it is served, one per line and sorted: the content of `tests/golden/methods.txt`. `http`
/// registers the handlers, and so knows which methods are served.
#[must_use]
pub fn method_list(is_served: impl Fn(Method) -> bool) -> String {
    let line = |method: &Method| {
        let state = if is_served(*method) { "served" } else { "unimplemented" };
        format!("{}/{} {state}\n", method.service(), method.name())
    };
    Method::ALL.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::contract::rpc;

    #[test]
    fn every_method_is_found_by_its_path() {
        assert_eq!(Method::ALL.len(), 166);
        for method in Method::ALL {
            assert_eq!(Method::from_path(method.path()), Some(method));
            let path = format!("/api/connect/{}/{}", method.service(), method.name());
            assert_eq!(method.path(), path);
        }
        for foreign in ["", "/", "/api/connect/", "/api/connect/chatto.api.v1.RoomService/Nope"] {
            assert_eq!(Method::from_path(foreign), None);
        }
    }

    #[test]
    fn public_methods_are_those_of_three_services() {
        let public: BTreeSet<_> =
            Method::ALL.into_iter().filter(|m| m.access() == CallAccess::Public).collect();
        assert_eq!(public.len(), 6);
        assert!(public.contains(&Method::ServerDiscoveryServiceGetServer));
        assert!(!public.contains(&Method::ViewerServiceGetViewer));
    }

    #[test]
    fn size_classes_follow_the_contract() {
        let mib = 1 << 20;
        let cases = [
            (Method::MessageServiceCreateMessage, mib),
            (Method::AssetUploadServiceUploadChunk, 576 << 10),
            (Method::AssetUploadServiceCreateUpload, 576 << 10),
            (Method::MyAccountServiceUploadAvatar, 25 * mib + (64 << 10)),
            (Method::AdminServerServiceUploadServerLogo, 25 * mib + (64 << 10)),
            (Method::AdminServerServiceUploadServerBanner, 25 * mib + (64 << 10)),
        ];
        for (method, max_bytes) in cases {
            assert_eq!(method.size_class().max_bytes(25 * mib), max_bytes, "{}", method.path());
        }
    }

    #[test]
    fn idempotency_is_what_the_tables_declare() {
        let declared: Vec<_> = Method::ALL
            .into_iter()
            .filter(|m| m.idempotency() != Idempotency::Unknown)
            .map(|m| (m.name(), m.idempotency()))
            .collect();
        use Idempotency::{Idempotent, NoSideEffects};
        assert_eq!(
            declared,
            [
                ("DeleteBot", Idempotent),
                ("ReassignBotOwner", Idempotent),
                ("DeleteAvatar", Idempotent),
                ("DeleteCustomStatus", Idempotent),
                ("BatchDeleteNotificationOccurrences", Idempotent),
                ("DeleteNotificationOccurrence", Idempotent),
                ("MarkNotificationRead", Idempotent),
                ("UpdateNotificationPolicy", Idempotent),
                ("Unsubscribe", Idempotent),
                ("DeleteSubscription", Idempotent),
                ("GetServer", NoSideEffects),
            ]
        );
    }

    #[test]
    fn a_method_type_carries_its_messages() {
        fn names<R: Rpc>() -> (String, String)
        where
            R::Request: prost::Name,
            R::Response: prost::Name,
        {
            use prost::Name;
            (R::Request::full_name(), R::Response::full_name())
        }
        type StartDm = rpc::room_service::StartDm;
        assert_eq!(StartDm::METHOD, Method::RoomServiceStartDm);
        let (request, response) = names::<StartDm>();
        assert_eq!(request, StartDm::METHOD.request());
        assert_eq!(response, StartDm::METHOD.response());
    }
}
