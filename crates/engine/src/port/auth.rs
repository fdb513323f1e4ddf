//! The password of gRPC calls.
use std::sync::Arc;

use tonic::{Request, Status, service::Interceptor};

use super::http2::Door;
use crate::security::Security;

/// Checks `authorization: Bearer <password>`, and the service that a node names, before a message is read.
#[derive(Clone)]
pub struct Bearer(pub Arc<Security>);

impl Interceptor for Bearer {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get("authorization").map(|given| given.as_bytes());
        let door = request.extensions().get::<Door>();
        if let Some(service) = request.metadata().get("kamacache-service") {
            self.0.belongs(service.as_bytes()).map_err(Status::unauthenticated)?;
        }
        match self.0.admits(given, door.map_or("", |door| &door.origin.0)) {
            Ok(()) => {
                if let Some(door) = door {
                    door.open();
                }
                Ok(request)
            }
            Err(text) => Err(Status::unauthenticated(text)),
        }
    }
}
