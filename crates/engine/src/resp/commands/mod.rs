//! The commands, a file for each family: their entries and their handlers.
pub mod admin;
pub mod connection;
pub mod keys;
pub mod keyspace;
pub mod peers;
pub mod scripts;
pub mod transaction;
pub mod writes;
