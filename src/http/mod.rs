//! The edge: sockets, TLS, routes, limits, auth, errors, Connect calls, assets, realtime socket.
