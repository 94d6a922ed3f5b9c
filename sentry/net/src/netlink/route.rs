//! rtnetlink(7): requests in, replies out.

use crate::interfaces::{Interface, InterfaceAddress};

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTM_GETRULE: u16 = 34;
const RTM_GETNEIGH: u16 = 30;

const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_STATS: u16 = 7;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;

const HEADER: usize = 16;
const ENODEV: i32 = 19;
const EOPNOTSUPP: i32 = 95;
const EPERM: i32 = 1;

/// `struct nlmsghdr`.
#[derive(Clone, Copy)]
struct Header {
    len: usize,
    kind: u16,
    flags: u16,
    sequence: u32,
}

fn header(bytes: &[u8]) -> Option<Header> {
    let bytes = bytes.get(..HEADER)?;
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    Some(Header { len: word(0) as usize, kind: half(4), flags: half(6), sequence: word(8) })
}

/// The datagrams that answer a datagram of requests, for the socket of that port.
pub fn answer(mut requests: &[u8], port: u32, interfaces: &[Interface]) -> Vec<Vec<u8>> {
    let mut replies = Vec::new();
    while let Some(request) = header(requests) {
        if request.len < HEADER || request.len > requests.len() {
            break;
        }
        let body = &requests[HEADER..request.len];
        if request.flags & NLM_F_REQUEST != 0 && request.kind > NLMSG_NOOP {
            answer_one(request, body, port, interfaces, &mut replies);
        }
        requests = &requests[request.len.next_multiple_of(4).min(requests.len())..];
    }
    replies
}

fn answer_one(request: Header, body: &[u8], port: u32, interfaces: &[Interface], replies: &mut Vec<Vec<u8>>) {
    let dump = request.flags & NLM_F_DUMP == NLM_F_DUMP;
    let family = body.first().copied().unwrap_or(0);
    match request.kind {
        RTM_GETLINK if dump => {
            let links = interfaces.iter().map(|i| (RTM_NEWLINK, link(i)));
            dump_all(request, port, links.collect(), replies);
        }
        RTM_GETLINK => match find(body, interfaces) {
            Some(interface) => {
                replies.push(message(RTM_NEWLINK, 0, request.sequence, port, &link(interface)));
                acknowledge(request, port, replies);
            }
            None => replies.push(error(request, body, port, ENODEV)),
        },
        RTM_GETADDR if dump => {
            let mut addresses = Vec::new();
            for interface in interfaces {
                for address in &interface.addresses {
                    if family == 0 || family == family_of(address) {
                        addresses.push((RTM_NEWADDR, self::address(interface, address)));
                    }
                }
            }
            dump_all(request, port, addresses, replies);
        }
        RTM_GETROUTE | RTM_GETRULE | RTM_GETNEIGH if dump => dump_all(request, port, Vec::new(), replies),
        // What changes something.
        kind if kind >= RTM_NEWLINK && kind & 3 != 2 => replies.push(error(request, body, port, EPERM)),
        _ => replies.push(error(request, body, port, EOPNOTSUPP)),
    }
}

/// All parts in one datagram, and the end in another, as Linux does for short lists.
fn dump_all(request: Header, port: u32, parts: Vec<(u16, Vec<u8>)>, replies: &mut Vec<Vec<u8>>) {
    let mut datagram = Vec::new();
    for (kind, body) in parts {
        datagram.extend(message(kind, NLM_F_MULTI, request.sequence, port, &body));
    }
    if !datagram.is_empty() {
        replies.push(datagram);
    }
    replies.push(message(NLMSG_DONE, NLM_F_MULTI, request.sequence, port, &0i32.to_ne_bytes()));
}

fn acknowledge(request: Header, port: u32, replies: &mut Vec<Vec<u8>>) {
    if request.flags & NLM_F_ACK != 0 {
        replies.push(error(request, &[], port, 0));
    }
}

/// NLMSG_ERROR with the request; 0 is an acknowledgement, which repeats the header only.
fn error(request: Header, body: &[u8], port: u32, errno: i32) -> Vec<u8> {
    let mut out = (-errno).to_ne_bytes().to_vec();
    let repeated = if errno == 0 { &[] } else { body };
    out.extend_from_slice(&(request.len as u32).to_ne_bytes());
    out.extend_from_slice(&request.kind.to_ne_bytes());
    out.extend_from_slice(&request.flags.to_ne_bytes());
    out.extend_from_slice(&request.sequence.to_ne_bytes());
    out.extend_from_slice(&port.to_ne_bytes());
    out.extend_from_slice(repeated);
    message(NLMSG_ERROR, 0, request.sequence, port, &out)
}

fn message(kind: u16, flags: u16, sequence: u32, port: u32, body: &[u8]) -> Vec<u8> {
    let mut out = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&port.to_ne_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn with_nul(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

/// `struct ifinfomsg` and attributes.
fn link(interface: &Interface) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend_from_slice(&interface.kind.to_ne_bytes());
    out.extend_from_slice(&interface.index.to_ne_bytes());
    out.extend_from_slice(&interface.flags.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    attribute(&mut out, IFLA_IFNAME, &with_nul(&interface.name));
    attribute(&mut out, IFLA_TXQLEN, &1000u32.to_ne_bytes());
    // Loopback devices have no operational state (IF_OPER_UNKNOWN), others are up.
    attribute(&mut out, IFLA_OPERSTATE, &[if interface.kind == 1 { 6 } else { 0 }]);
    attribute(&mut out, IFLA_MTU, &interface.mtu.to_ne_bytes());
    attribute(&mut out, IFLA_ADDRESS, &interface.hardware);
    attribute(&mut out, IFLA_BROADCAST, &[if interface.kind == 1 { 0xff } else { 0 }; 6]);
    attribute(&mut out, IFLA_STATS, &[0; 96]);
    out
}

fn family_of(address: &InterfaceAddress) -> u8 {
    if address.address.len() == 4 { 2 } else { 10 }
}

/// `struct ifaddrmsg` and attributes.
fn address(interface: &Interface, address: &InterfaceAddress) -> Vec<u8> {
    let mut out = vec![family_of(address), address.prefix, IFA_F_PERMANENT as u8, address.scope];
    out.extend_from_slice(&interface.index.to_ne_bytes());
    attribute(&mut out, IFA_ADDRESS, &address.address);
    if address.address.len() == 4 {
        attribute(&mut out, IFA_LOCAL, &address.address);
        attribute(&mut out, IFA_LABEL, &with_nul(&interface.name));
    }
    attribute(&mut out, IFA_FLAGS, &IFA_F_PERMANENT.to_ne_bytes());
    out
}

/// The link that a request without NLM_F_DUMP names, by index or name.
fn find<'a>(body: &[u8], interfaces: &'a [Interface]) -> Option<&'a Interface> {
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    if index != 0 {
        return interfaces.iter().find(|i| i.index == index);
    }
    let mut attributes = body.get(16..)?;
    while let [a, b, c, d, ..] = attributes {
        let (len, kind) = (u16::from_ne_bytes([*a, *b]) as usize, u16::from_ne_bytes([*c, *d]));
        let value = attributes.get(4..len)?;
        if kind == IFLA_IFNAME {
            let name = value.split(|b| *b == 0).next().unwrap_or_default();
            return interfaces.iter().find(|i| i.name.as_bytes() == name);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        message(kind, flags | NLM_F_REQUEST, 7, 0, body)
    }

    fn kinds(reply: &[u8]) -> Vec<u16> {
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(h) = header(&reply[at..]) {
            out.push(h.kind);
            assert_eq!(h.sequence, 7);
            at += h.len.next_multiple_of(4);
        }
        out
    }

    #[test]
    fn dumps_and_errors() {
        let interfaces = [Interface::loopback()];
        let ask = |kind, flags, body: &[u8]| answer(&request(kind, flags, body), 5, &interfaces);
        let links = ask(RTM_GETLINK, NLM_F_DUMP, &[0; 16]);
        assert_eq!(links.iter().map(|r| kinds(r)).collect::<Vec<_>>(), [vec![RTM_NEWLINK], vec![NLMSG_DONE]]);
        let addresses = ask(RTM_GETADDR, NLM_F_DUMP, &[0; 8]);
        assert_eq!(kinds(&addresses[0]), [RTM_NEWADDR, RTM_NEWADDR]);
        let six = ask(RTM_GETADDR, NLM_F_DUMP, &[10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(kinds(&six[0]), [RTM_NEWADDR]);
        let mut by_name = vec![0; 16];
        attribute(&mut by_name, IFLA_IFNAME, b"lo\0");
        assert_eq!(kinds(&ask(RTM_GETLINK, NLM_F_ACK, &by_name)[0]), [RTM_NEWLINK]);
        assert_eq!(kinds(&ask(RTM_GETLINK, 0, &[0; 16])[0]), [NLMSG_ERROR]);
        assert_eq!(ask(RTM_NEWADDR, 0, &[0; 8])[0][16..20], (-EPERM).to_ne_bytes());
        assert!(answer(&[0xff; 40], 5, &interfaces).is_empty());
        assert!(answer(&[1, 0], 5, &interfaces).is_empty());
    }
}
