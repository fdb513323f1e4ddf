//! A node's port: its connections, and every protocol spoken on it except RESP.
pub mod auth;
pub mod foreign;
pub mod grpc;
pub mod http;
pub mod http2;
pub mod server;
pub mod stream;
pub mod tls;
