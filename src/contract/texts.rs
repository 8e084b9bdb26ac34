//! Texts that clients compare or search (contract, section 3.3). All other texts may change.

/// 401 of any call without a valid credential; clients search for these words.
pub const AUTHENTICATION_REQUIRED: &str = "authentication required";
/// 401 of `POST /auth/login`: unknown user, wrong password, deleted user alike.
pub const INVALID_CREDENTIALS: &str = "Invalid credentials";
/// 403 of `POST /auth/register` while direct registration is off.
pub const REGISTRATION_DISABLED: &str = "Registration is disabled";
/// 409 of `POST /auth/register/complete`, login in use; clients search for `already taken`.
pub const USERNAME_TAKEN: &str = "Username is already taken";
/// 400 of `POST /auth/register/complete`, bad token.
pub const INVALID_REGISTRATION_TOKEN: &str = "Invalid or expired registration token";
/// 400 of `POST /auth/register/verify-code`, invalid code; shown unchanged.
pub const INVALID_CODE: &str = "Invalid or expired code";
/// 400 of `POST /auth/reset-password`, bad or used token.
pub const INVALID_RESET_TOKEN: &str = "Invalid or expired reset token";
/// `invalid_argument` of `CreateRoom` and `UpdateRoom`.
pub const ROOM_NAME_TOO_LONG: &str = "room name must be 30 characters or less";
/// `invalid_argument` of `CreateRoom` and `UpdateRoom`.
pub const ROOM_DESCRIPTION_TOO_LONG: &str = "room description must be 500 characters or less";
/// `already_exists` of `CreateRoom` and `UpdateRoom`.
pub const ROOM_NAME_TAKEN: &str = "a room with this name already exists";
/// 400 page of `GET /oauth/authorize` for a rejected client: the text contains this.
pub const INVALID_CLIENT: &str = "invalid_client";
/// As [`INVALID_CLIENT`], for a blocked client: the text contains this too.
pub const CLIENT_BLOCKED: &str = "blocked by this server";
/// 400 of `POST /oauth/token`: bad code, verifier, client or callback.
pub const INVALID_GRANT: &str = "invalid_grant";
