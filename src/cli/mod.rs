//! One file per subcommand; the only printer; exit codes.
