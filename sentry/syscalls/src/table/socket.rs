//! Sockets.

use sentry_abi::UserAddr;

use crate::args::Flags;
use crate::socket::{create, message, option, receive, send};

syscalls! {
    41 socket(domain: i32, kind: i32, protocol: i32) => create::socket, full;
    42 connect(sockfd: i32, addr: UserAddr, addrlen: i32) => create::connect, full;
    43 accept(sockfd: i32, addr: UserAddr, addrlen: UserAddr) => create::accept, full;
    44 sendto(sockfd: i32, buf: UserAddr, len: u64, flags: Flags, dest_addr: UserAddr, addrlen: i32) => send::sendto, full;
    45 recvfrom(sockfd: i32, buf: UserAddr, len: u64, flags: Flags, src_addr: UserAddr, addrlen: UserAddr) => receive::recvfrom, full;
    46 sendmsg(sockfd: i32, msg: UserAddr, flags: Flags) => message::sendmsg, full;
    47 recvmsg(sockfd: i32, msg: UserAddr, flags: Flags) => message::recvmsg, full;
    48 shutdown(sockfd: i32, how: i32) => create::shutdown, full;
    49 bind(sockfd: i32, addr: UserAddr, addrlen: i32) => create::bind, full;
    50 listen(sockfd: i32, backlog: i32) => create::listen, full;
    51 getsockname(sockfd: i32, addr: UserAddr, addrlen: UserAddr) => create::getsockname, full;
    52 getpeername(sockfd: i32, addr: UserAddr, addrlen: UserAddr) => create::getpeername, full;
    53 socketpair(domain: i32, kind: i32, protocol: i32, sv: UserAddr) => create::socketpair, full;
    54 setsockopt(sockfd: i32, level: i32, optname: i32, optval: UserAddr, optlen: i32) => option::setsockopt, full;
    55 getsockopt(sockfd: i32, level: i32, optname: i32, optval: UserAddr, optlen: UserAddr) => option::getsockopt, full;
    288 accept4(sockfd: i32, addr: UserAddr, addrlen: UserAddr, flags: Flags) => create::accept4, full;
    299 recvmmsg(sockfd: i32, msgvec: UserAddr, vlen: u32, flags: Flags, timeout: UserAddr) => message::recvmmsg, full;
    307 sendmmsg(sockfd: i32, msgvec: UserAddr, vlen: u32, flags: Flags) => message::sendmmsg, full;
}
