//! Texts that clients compare or search (contract, section 3.3). All other texts may change. Those of the service are
//! in its errors.

/// 401 of any call without a valid credential; clients search for these words.
pub const AUTHENTICATION_REQUIRED: &str = "authentication required";
/// 403 of `POST /auth/register` while direct registration is off.
pub const REGISTRATION_DISABLED: &str = "Registration is disabled";
/// `invalid_argument` of `CreateRoom` and `UpdateRoom`.
pub const ROOM_NAME_TOO_LONG: &str = "room name must be 30 characters or less";
/// `invalid_argument` of `CreateRoom` and `UpdateRoom`.
pub const ROOM_DESCRIPTION_TOO_LONG: &str = "room description must be 500 characters or less";
