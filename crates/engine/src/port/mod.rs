//! A node's port: its connections, and the protocols spoken on it.
pub mod auth;
pub mod foreign;
pub mod grpc;
pub mod http;
pub mod http2;
pub mod page;
pub mod places;
pub mod resp;
pub mod room;
pub mod server;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod unix;
pub mod whole;
