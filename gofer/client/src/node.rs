//! A node id that is given back.

use std::fmt;
use std::sync::Arc;

use gofer_proto::NodeId;

use crate::GoferClient;

/// Keeps a file known to the gofer; dropping it gives the id back.
pub struct Node {
    client: Arc<GoferClient>,
    id: NodeId,
}

impl Node {
    pub(crate) fn new(client: Arc<GoferClient>, id: NodeId) -> Node {
        Node { client, id }
    }

    pub fn id(&self) -> NodeId {
        self.id
    }

    pub fn client(&self) -> &Arc<GoferClient> {
        &self.client
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.client.release(self.id);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.id.0)
    }
}
