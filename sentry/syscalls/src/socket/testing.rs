//! The sockets of a test's sandbox.

use std::sync::Arc;

use sentry_net::NetNamespace;

pub fn sockets() -> Arc<NetNamespace> {
    NetNamespace::new(5)
}
