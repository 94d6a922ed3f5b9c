//! The network interfaces that a namespace shows. Until the netstack process tells of others there is the loopback only.

use sentry_abi::{Errno, Result, UserAddr};
use sentry_vfs::Caller;

/// An address of an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfaceAddress {
    /// 4 or 16 bytes.
    pub address: Vec<u8>,
    pub prefix: u8,
    /// `RT_SCOPE_*`: 0 everywhere, 253 link, 254 host.
    pub scope: u8,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    /// `ARPHRD_*`: 1 Ethernet, 772 loopback.
    pub kind: u16,
    /// `IFF_*`.
    pub flags: u32,
    pub mtu: u32,
    pub hardware: [u8; 6],
    pub addresses: Vec<InterfaceAddress>,
}

const ARPHRD_LOOPBACK: u16 = 772;
/// IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_LOWER_UP.
const LOOPBACK_FLAGS: u32 = 0x1_0049;
const RT_SCOPE_HOST: u8 = 254;

impl Interface {
    pub fn loopback() -> Interface {
        let mut six = vec![0; 16];
        six[15] = 1;
        Interface {
            index: 1,
            name: "lo".into(),
            kind: ARPHRD_LOOPBACK,
            flags: LOOPBACK_FLAGS,
            mtu: 65536,
            hardware: [0; 6],
            addresses: vec![
                InterfaceAddress { address: vec![127, 0, 0, 1], prefix: 8, scope: RT_SCOPE_HOST },
                InterfaceAddress { address: six, prefix: 128, scope: RT_SCOPE_HOST },
            ],
        }
    }

    fn four(&self) -> Option<(&[u8], u8)> {
        self.addresses.iter().find(|a| a.address.len() == 4).map(|a| (a.address.as_slice(), a.prefix))
    }
}

const SIOCGIFNAME: u32 = 0x8910;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCGIFBRDADDR: u32 = 0x8919;
const SIOCGIFNETMASK: u32 = 0x891b;
const SIOCGIFMETRIC: u32 = 0x891d;
const SIOCGIFMTU: u32 = 0x8921;
const SIOCGIFHWADDR: u32 = 0x8927;
const SIOCGIFINDEX: u32 = 0x8933;
const SIOCGIFTXQLEN: u32 = 0x8942;
/// `struct ifreq`: a name and 24 bytes.
const IFREQ: usize = 40;
const IFNAMSIZ: usize = 16;
const AF_INET: u16 = 2;

/// netdevice(7). `ENOTTY` for other commands, `ENODEV` for unknown names.
pub fn ioctl(interfaces: &[Interface], caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
    if command == SIOCGIFCONF {
        return list(interfaces, caller, argument);
    }
    let known = [
        SIOCGIFNAME,
        SIOCGIFFLAGS,
        SIOCGIFADDR,
        SIOCGIFBRDADDR,
        SIOCGIFNETMASK,
        SIOCGIFMETRIC,
        SIOCGIFMTU,
        SIOCGIFHWADDR,
        SIOCGIFINDEX,
        SIOCGIFTXQLEN,
    ];
    if !known.contains(&command) {
        return Err(Errno::ENOTTY);
    }
    let mut request = [0; IFREQ];
    caller.copy_in(UserAddr(argument), &mut request)?;
    let found = if command == SIOCGIFNAME {
        let index = u32::from_ne_bytes([request[16], request[17], request[18], request[19]]);
        interfaces.iter().find(|i| i.index == index)
    } else {
        let name = request[..IFNAMSIZ].split(|b| *b == 0).next().unwrap_or_default();
        interfaces.iter().find(|i| i.name.as_bytes() == name)
    };
    let interface = found.ok_or(Errno::ENODEV)?;
    let value = value_of(interface, command)?;
    if command == SIOCGIFNAME {
        request[..IFNAMSIZ].copy_from_slice(&padded_name(interface));
    } else {
        request[IFNAMSIZ..IFNAMSIZ + value.len()].copy_from_slice(&value);
    }
    caller.copy_out(UserAddr(argument), &request)?;
    Ok(0)
}

fn padded_name(interface: &Interface) -> [u8; IFNAMSIZ] {
    let mut name = [0; IFNAMSIZ];
    let bytes = interface.name.as_bytes();
    let n = bytes.len().min(IFNAMSIZ - 1);
    name[..n].copy_from_slice(&bytes[..n]);
    name
}

fn sockaddr_in(four: &[u8]) -> Vec<u8> {
    let mut out = AF_INET.to_ne_bytes().to_vec();
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(four);
    out.resize(16, 0);
    out
}

fn value_of(interface: &Interface, command: u32) -> Result<Vec<u8>> {
    let four = || interface.four().ok_or(Errno::EADDRNOTAVAIL);
    Ok(match command {
        SIOCGIFFLAGS => (interface.flags as u16).to_ne_bytes().to_vec(),
        SIOCGIFADDR => sockaddr_in(four()?.0),
        SIOCGIFBRDADDR => sockaddr_in(&[0; 4]),
        SIOCGIFNETMASK => {
            let bits = u32::MAX.checked_shl(32 - four()?.1.min(32) as u32).unwrap_or(0);
            sockaddr_in(&bits.to_be_bytes())
        }
        SIOCGIFMTU => interface.mtu.to_ne_bytes().to_vec(),
        SIOCGIFINDEX => interface.index.to_ne_bytes().to_vec(),
        SIOCGIFTXQLEN => 1000u32.to_ne_bytes().to_vec(),
        SIOCGIFHWADDR => [interface.kind.to_ne_bytes().as_slice(), &interface.hardware].concat(),
        _ => vec![0; 4],
    })
}

/// SIOCGIFCONF: an ifreq for each interface that has an IPv4 address.
fn list(interfaces: &[Interface], caller: &dyn Caller, argument: u64) -> Result<u64> {
    let mut header = [0; 16];
    caller.copy_in(UserAddr(argument), &mut header)?;
    let room = i32::from_ne_bytes([header[0], header[1], header[2], header[3]]).max(0) as usize;
    let mut buffer = [0; 8];
    buffer.copy_from_slice(&header[8..]);
    let at = u64::from_ne_bytes(buffer);
    let mut out = Vec::new();
    for interface in interfaces {
        if let Some((four, _)) = interface.four() {
            out.extend_from_slice(&padded_name(interface));
            out.extend_from_slice(&sockaddr_in(four));
            out.resize(out.len().next_multiple_of(IFREQ), 0);
        }
    }
    if at != 0 {
        out.truncate(room / IFREQ * IFREQ);
        caller.copy_out(UserAddr(at), &out)?;
    }
    header[..4].copy_from_slice(&(out.len() as i32).to_ne_bytes());
    caller.copy_out(UserAddr(argument), &header)?;
    Ok(0)
}
