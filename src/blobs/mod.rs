//! Where bytes live: `enum Blobs { Nats, S3 }`; put stream, get range, delete.
