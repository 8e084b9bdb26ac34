//! The embedded web client: path → bytes, type, etag, encoding.
