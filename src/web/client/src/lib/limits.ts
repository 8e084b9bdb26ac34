// Limits of the server. It checks them itself; a test of the server compares these with `src/limits/mod.rs`.
export const BODY_MAX_BYTES = 10_000;
export const ATTACHMENTS_MAX = 10;
export const ROOM_NAME_MAX_CHARS = 30;
export const DESCRIPTION_MAX_CHARS = 500;
export const DISPLAY_NAME_MAX_CHARS = 32;
export const LOGIN_MIN_CHARS = 2;
export const LOGIN_MAX_CHARS = 32;
export const PASSWORD_MIN_CHARS = 8;
export const PASSWORD_MAX_CHARS = 128;
export const EMAIL_MAX_BYTES = 254;
export const IDENTIFIER_MAX_BYTES = 254;
