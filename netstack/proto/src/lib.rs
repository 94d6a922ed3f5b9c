//! netstack's messages and ring layout. Empty until netstack has sockets: what exists of its channel is in `runsc-control`.
#![forbid(unsafe_code)]
