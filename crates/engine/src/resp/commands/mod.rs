//! The commands, one file a family: each its entries and their handlers.
pub mod admin;
pub mod connection;
pub mod keys;
pub mod peers;
pub mod transaction;
