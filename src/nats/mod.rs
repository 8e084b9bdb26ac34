//! Our NATS: connect, streams, batch direct get, buckets, object store as byte streams.
