//! One reference table: key, type, default, env name, secret?, text; file, env, check.
