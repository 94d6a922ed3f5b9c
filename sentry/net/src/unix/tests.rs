//! Expectations were taken from Linux 6.18.

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Result, Signal};
use sentry_sync::Events;
use sentry_vfs::{FileDescription, StatusFlags};

use super::UnixSocket;
use crate::control::Control;
use crate::family::{MsgFlags, Outgoing, PeerCredentials, Received, Shutdown, Socket, SocketKind};
use crate::names::NoNames;
use crate::namespace::NetNamespace;
use crate::options::so;
use crate::testing::{Count, Files, Person, some_file};

const STREAM: i32 = 1;
const DATAGRAM: i32 = 2;
const SEQPACKET: i32 = 5;
const OUT: u32 = 0x304;

struct Rig {
    namespace: Arc<NetNamespace>,
    who: Person,
    files: Files,
}

type Handle = Arc<dyn Socket>;

impl Rig {
    fn new() -> Rig {
        Rig { namespace: NetNamespace::new(8), who: Person::root(), files: Files::default() }
    }

    fn socket(&self, kind: i32) -> Handle {
        self.namespace.socket(1, kind, 0).unwrap()
    }

    fn pair(&self, kind: i32) -> (Handle, Handle) {
        self.namespace.pair(&self.who, 1, kind, 0).unwrap()
    }

    fn file(&self, socket: &Handle) -> Arc<FileDescription> {
        self.namespace.file(socket.clone(), &self.who, StatusFlags::empty())
    }

    fn bind(&self, socket: &Handle, name: &[u8]) -> Result<()> {
        socket.bind(&self.who, &self.files, &address(name))
    }

    fn connect(&self, socket: &Handle, name: &[u8]) -> Result<()> {
        socket.connect(&self.who, &self.files, &address(name))
    }

    fn send(&self, socket: &Handle, data: &[u8]) -> Result<usize> {
        socket.send(&self.who, &NoNames, Outgoing { data, ..Outgoing::default() })
    }

    fn send_to(&self, socket: &Handle, data: &[u8], name: &[u8]) -> Result<usize> {
        socket.send(&self.who, &self.files, Outgoing { data, address: Some(&address(name)), ..Outgoing::default() })
    }

    fn send_files(&self, socket: &Handle, data: &[u8], files: Vec<Arc<FileDescription>>) -> Result<usize> {
        socket.send(&self.who, &NoNames, Outgoing { data, control: vec![Control::Rights(files)], ..Outgoing::default() })
    }

    fn receive_with(&self, socket: &Handle, len: usize, flags: MsgFlags) -> Result<(Vec<u8>, Received)> {
        let mut buf = vec![0; len];
        let received = socket.receive(&self.who, &mut buf, flags)?;
        buf.truncate(received.bytes);
        Ok((buf, received))
    }

    fn receive(&self, socket: &Handle, len: usize) -> Result<Vec<u8>> {
        self.receive_with(socket, len, MsgFlags::empty()).map(|(data, _)| data)
    }

    /// A listener of that name, a client and the connection it accepted.
    fn connected(&self, kind: i32, name: &[u8]) -> (Handle, Handle, Handle) {
        let (listener, client) = (self.socket(kind), self.socket(kind));
        self.bind(&listener, name).unwrap();
        listener.listen(&self.who, 5).unwrap();
        self.connect(&client, name).unwrap();
        let server = listener.accept(&self.who).unwrap();
        (listener, client, server)
    }
}

fn address(name: &[u8]) -> Vec<u8> {
    [1u16.to_ne_bytes().as_slice(), name].concat()
}

fn poll(socket: &Handle) -> u32 {
    socket.ready(Events::all(), None).bits()
}

fn rights(received: &Received) -> usize {
    received.control.iter().map(|c| if let Control::Rights(files) = c { files.len() } else { 0 }).sum()
}

#[test]
fn unconnected_sockets() {
    let rig = Rig::new();
    let who = &rig.who;
    rig.files.add(b"/file", FileKind::Regular);
    for (kind, state, receive, send, listen) in [
        (STREAM, OUT | 0x10, Errno::EINVAL, Errno::ENOTCONN, Errno::EINVAL),
        (DATAGRAM, OUT, Errno::EAGAIN, Errno::ENOTCONN, Errno::EOPNOTSUPP),
        (SEQPACKET, OUT | 0x10, Errno::ENOTCONN, Errno::ENOTCONN, Errno::EINVAL),
    ] {
        let socket = rig.socket(kind);
        assert_eq!(poll(&socket), state);
        assert_eq!(rig.receive(&socket, 5), Err(receive));
        assert_eq!(rig.send(&socket, b"x"), Err(send));
        assert_eq!(socket.listen(who, 1), Err(listen));
        assert_eq!(socket.accept(who).err(), Some(listen));
        assert_eq!(socket.peer_address(), Err(Errno::ENOTCONN));
        assert_eq!(socket.local_address(), Ok(address(b"")));
        assert_eq!(rig.connect(&socket, b"\0none"), Err(Errno::ECONNREFUSED));
        assert_eq!(rig.connect(&socket, b"/none"), Err(Errno::ENOENT));
        assert_eq!(rig.connect(&socket, b"/file"), Err(Errno::ECONNREFUSED));
        assert_eq!(socket.shutdown(Shutdown::Both), Ok(()));
    }
    assert_eq!(rig.send_to(&rig.socket(STREAM), b"x", b"\0none"), Err(Errno::EOPNOTSUPP));
    assert_eq!(rig.send_to(&rig.socket(DATAGRAM), b"x", b"\0none"), Err(Errno::ECONNREFUSED));
    for (family, kind, protocol, errno) in
        [(1, 1, 5, Errno::EPROTONOSUPPORT), (99, 1, 0, Errno::EAFNOSUPPORT), (1, 77, 0, Errno::EINVAL), (1, 4, 0, Errno::ESOCKTNOSUPPORT)]
    {
        assert_eq!(rig.namespace.socket(family, kind, protocol).err(), Some(errno));
    }
}

#[test]
fn connections_and_backlog() {
    let rig = Rig::new();
    let listener = rig.socket(STREAM);
    rig.bind(&listener, b"\0l").unwrap();
    listener.listen(&rig.who, 0).unwrap();
    assert_eq!(poll(&listener), 0);
    let (first, second) = (rig.socket(STREAM), rig.socket(STREAM));
    assert_eq!(rig.connect(&first, b"\0l"), Ok(()));
    let (waiter, count) = Count::waiter(Events::OUT);
    second.ready(Events::OUT, Some(&waiter));
    assert_eq!(rig.connect(&second, b"\0l"), Err(Errno::EAGAIN));
    assert_eq!(poll(&listener), 0x41);
    assert_eq!(rig.send(&first, b"early"), Ok(5));
    assert_eq!(rig.connect(&listener, b"\0l"), Err(Errno::EINVAL));
    assert_eq!(rig.connect(&rig.socket(SEQPACKET), b"\0l"), Err(Errno::ECONNREFUSED));
    let server = listener.accept(&rig.who).unwrap();
    assert!(count.get() > 0);
    assert_eq!(rig.connect(&second, b"\0l"), Ok(()));
    assert_eq!(rig.connect(&first, b"\0l"), Err(Errno::EISCONN));
    assert_eq!(first.listen(&rig.who, 1), Err(Errno::EINVAL));
    assert_eq!(rig.receive(&server, 9), Ok(b"early".to_vec()));
    assert_eq!(server.local_address(), Ok(address(b"\0l")));
    assert_eq!(server.peer_address(), Ok(address(b"")));
    assert_eq!(first.peer_address(), Ok(address(b"\0l")));
    assert_eq!(rig.send_to(&first, b"x", b"\0l"), Err(Errno::EISCONN));
    let who = PeerCredentials { pid: 100, uid: 0, gid: 0 }.encode().to_vec();
    assert_eq!(server.get_option(&rig.who, 1, so::PEERCRED, 12), Ok(who.clone()));
    assert_eq!(first.get_option(&rig.who, 1, so::PEERCRED, 12), Ok(who));
    // A connection that nobody accepts breaks with its listener; the name is free.
    drop(listener);
    assert_eq!(rig.receive(&second, 1), Err(Errno::ECONNRESET));
    assert_eq!(rig.bind(&rig.socket(STREAM), b"\0l"), Ok(()));
}

#[test]
fn names() {
    let rig = Rig::new();
    let socket = rig.socket(STREAM);
    rig.bind(&socket, b"\0x").unwrap();
    assert_eq!(rig.bind(&socket, b"\0y"), Err(Errno::EINVAL));
    assert_eq!(rig.bind(&rig.socket(STREAM), b"\0x"), Err(Errno::EADDRINUSE));
    assert_eq!(rig.bind(&rig.socket(DATAGRAM), b"\0x"), Ok(()));
    let automatic = rig.socket(STREAM);
    rig.bind(&automatic, b"").unwrap();
    assert_eq!(automatic.local_address(), Ok(address(b"\x0000000")));
    let file = rig.socket(DATAGRAM);
    rig.bind(&file, b"/s\0junk").unwrap();
    assert_eq!(file.local_address(), Ok(address(b"/s\0")));
    assert_eq!(rig.bind(&rig.socket(DATAGRAM), b"/s"), Err(Errno::EADDRINUSE));
    assert_eq!(rig.connect(&rig.socket(STREAM), b"/s"), Err(Errno::EPROTOTYPE));
    let client = rig.socket(DATAGRAM);
    rig.connect(&client, b"/s").unwrap();
    assert_eq!(rig.send(&client, b"q"), Ok(1));
    let (data, received) = rig.receive_with(&file, 10, MsgFlags::empty()).unwrap();
    assert_eq!((data, received.address), (b"q".to_vec(), Some(Vec::new())));
    drop(file);
    assert_eq!(rig.send(&client, b"q"), Err(Errno::ECONNREFUSED));
    assert_eq!(rig.send(&client, b"q"), Err(Errno::ENOTCONN));
    assert_eq!(rig.connect(&client, b"/s"), Err(Errno::ECONNREFUSED));
}

#[test]
fn ends_of_streams() {
    let rig = Rig::new();
    let (_listener, client, server) = rig.connected(STREAM, b"\0l");
    rig.send(&server, b"abc").unwrap();
    rig.send(&client, b"unread").unwrap();
    drop(server);
    assert_eq!(poll(&client), 0x235d);
    assert_eq!(rig.receive(&client, 9), Ok(b"abc".to_vec()));
    assert_eq!(rig.receive(&client, 9), Err(Errno::ECONNRESET));
    assert_eq!(rig.receive(&client, 9), Ok(Vec::new()));
    assert_eq!(rig.send(&client, b"x"), Err(Errno::EPIPE));
    assert_eq!(*rig.who.signals.lock().unwrap(), [Signal::SIGPIPE]);
    let quiet = Outgoing { data: b"x", flags: MsgFlags::NOSIGNAL, ..Outgoing::default() };
    assert_eq!(client.send(&rig.who, &NoNames, quiet), Err(Errno::EPIPE));
    assert_eq!(rig.who.signals.lock().unwrap().len(), 1);
    assert_eq!(client.peer_address(), Ok(address(b"\0l")));
    let (a, b) = rig.pair(STREAM);
    assert_eq!(poll(&a), OUT);
    a.shutdown(Shutdown::Write).unwrap();
    assert_eq!((poll(&a), poll(&b)), (OUT, 0x2345));
    assert_eq!(rig.send(&a, b"x"), Err(Errno::EPIPE));
    assert_eq!(rig.receive(&b, 5), Ok(Vec::new()));
    assert_eq!(rig.send(&b, b"back"), Ok(4));
    assert_eq!(rig.receive(&a, 9), Ok(b"back".to_vec()));
    let (c, d) = rig.pair(SEQPACKET);
    drop(c);
    assert_eq!(poll(&d), 0x2355);
    assert_eq!(rig.send(&d, b"x"), Err(Errno::EPIPE));
    assert_eq!(rig.receive(&d, 5), Ok(Vec::new()));
}

#[test]
fn buffers_fill_and_drain_like_linux() {
    let rig = Rig::new();
    let (a, b) = rig.pair(STREAM);
    let mut sent = 0;
    while let Ok(n) = rig.send(&a, &[b'x'; 4096]) {
        sent += n;
    }
    assert_eq!((sent, poll(&a), poll(&b)), (180_224, 0, 0x345));
    let (waiter, count) = Count::waiter(Events::OUT);
    a.ready(Events::OUT, Some(&waiter));
    let mut got = 0;
    while poll(&a) == 0 {
        got += rig.receive(&b, 4096).unwrap().len();
    }
    assert_eq!((got, count.get()), (139_264, 1));
    let big = rig.send(&a, &[b'y'; 1 << 20]).unwrap();
    assert!(big > 100_000 && big < 300_000);
    for (kind, messages) in [(DATAGRAM, 278), (SEQPACKET, 278)] {
        let (a, _b) = rig.pair(kind);
        let mut n = 0;
        while rig.send(&a, b"x").is_ok() {
            n += 1;
        }
        assert_eq!((n, poll(&a)), (messages, 0));
    }
    let (a, _b) = rig.pair(DATAGRAM);
    assert_eq!(rig.send(&a, &vec![0; 212_961]), Err(Errno::EMSGSIZE));
    assert_eq!(rig.send(&a, &vec![0; 212_960]), Ok(212_960));
}

#[test]
fn datagrams_keep_their_bounds() {
    let rig = Rig::new();
    let (a, b) = rig.pair(SEQPACKET);
    rig.send(&a, b"hello").unwrap();
    let (data, received) = rig.receive_with(&b, 2, MsgFlags::PEEK).unwrap();
    assert_eq!((data.as_slice(), received.flags), (b"he".as_slice(), MsgFlags::TRUNC));
    let mut two = [0; 2];
    assert_eq!(b.receive(&rig.who, &mut two, MsgFlags::TRUNC).unwrap().bytes, 5);
    rig.send(&a, b"").unwrap();
    assert_eq!(poll(&b), OUT | 0x41);
    assert_eq!(rig.receive(&b, 5), Ok(Vec::new()));
    assert_eq!(rig.receive(&b, 5), Err(Errno::EAGAIN));
    let (one, two, three) = (rig.socket(DATAGRAM), rig.socket(DATAGRAM), rig.socket(DATAGRAM));
    rig.bind(&one, b"\0one").unwrap();
    rig.bind(&two, b"\0two").unwrap();
    rig.connect(&one, b"\0two").unwrap();
    assert_eq!(rig.connect(&three, b"\0one"), Err(Errno::EPERM));
    assert_eq!(rig.send_to(&three, b"x", b"\0one"), Err(Errno::EPERM));
    assert_eq!(rig.send(&one, b"x"), Ok(1));
    let (_, received) = rig.receive_with(&two, 5, MsgFlags::empty()).unwrap();
    assert_eq!(received.address, Some(address(b"\0one")));
    let mut n = 0;
    while rig.send_to(&three, b"x", b"\0two").is_ok() {
        n += 1;
    }
    assert_eq!(n, super::MAX_DATAGRAMS + 1);
    let (waiter, count) = Count::waiter(Events::OUT);
    one.ready(Events::OUT, Some(&waiter));
    assert_eq!(poll(&one), 0);
    rig.receive(&two, 5).unwrap();
    assert_eq!((poll(&one), count.get()), (OUT, 1));
    one.connect(&rig.who, &NoNames, &[0, 0]).unwrap();
    assert_eq!(one.peer_address(), Err(Errno::ENOTCONN));
}

#[test]
fn descriptors_travel() {
    let rig = Rig::new();
    let (a, b) = rig.pair(STREAM);
    rig.send(&a, b"x").unwrap();
    rig.send_files(&a, b"ab", vec![some_file(), some_file()]).unwrap();
    rig.send(&a, b"cd").unwrap();
    let (data, received) = rig.receive_with(&b, 10, MsgFlags::PEEK).unwrap();
    assert_eq!((data.as_slice(), rights(&received)), (b"xab".as_slice(), 2));
    let (data, received) = rig.receive_with(&b, 2, MsgFlags::empty()).unwrap();
    assert_eq!((data.as_slice(), rights(&received)), (b"xa".as_slice(), 2));
    let (data, received) = rig.receive_with(&b, 10, MsgFlags::empty()).unwrap();
    assert_eq!((data.as_slice(), rights(&received)), (b"bcd".as_slice(), 0));
    assert_eq!(rig.send_files(&a, b"", vec![some_file()]), Ok(0));
    assert_eq!(rig.receive(&b, 5), Err(Errno::EAGAIN));
    let (c, d) = rig.pair(DATAGRAM);
    let file = some_file();
    rig.send_files(&c, b"", vec![file.clone()]).unwrap();
    let (_, received) = rig.receive_with(&d, 10, MsgFlags::empty()).unwrap();
    let Some(Control::Rights(files)) = received.control.first() else { unreachable!("descriptors were sent") };
    assert!(Arc::ptr_eq(&files[0], &file));
    rig.send_files(&c, b"", vec![file.clone()]).unwrap();
    drop((c, d, received));
    assert_eq!(Arc::strong_count(&file), 1);
}

#[test]
fn credentials_pass_when_asked() {
    let rig = Rig::new();
    let (a, b) = rig.pair(STREAM);
    rig.send(&a, b"1").unwrap();
    let claimed = PeerCredentials { pid: 7, uid: 8, gid: 9 };
    let message = Outgoing { data: b"2", control: vec![Control::Credentials(claimed)], ..Outgoing::default() };
    a.send(&rig.who, &NoNames, message).unwrap();
    b.set_option(&rig.who, 1, so::PASSCRED, &1i32.to_ne_bytes()).unwrap();
    let own = PeerCredentials { pid: 100, uid: 0, gid: 0 };
    for (byte, who) in [(b"1", own), (b"2", claimed)] {
        let (data, received) = rig.receive_with(&b, 10, MsgFlags::empty()).unwrap();
        assert_eq!(data, byte);
        assert!(matches!(received.control[..], [Control::Credentials(c)] if c == who));
    }
    // A sender that passes credentials gets a name.
    let (sender, receiver) = (rig.socket(DATAGRAM), rig.socket(DATAGRAM));
    rig.bind(&receiver, b"\0r").unwrap();
    sender.set_option(&rig.who, 1, so::PASSCRED, &1i32.to_ne_bytes()).unwrap();
    rig.send_to(&sender, b"x", b"\0r").unwrap();
    let (_, received) = rig.receive_with(&receiver, 10, MsgFlags::empty()).unwrap();
    assert_eq!(received.address, Some(address(b"\x0000000")));
}

/// Sockets that only each other's queues refer to are found and freed; others are not touched.
#[test]
fn rings_of_sockets_are_freed() {
    let rig = Rig::new();
    let witness = some_file();
    let (keeper, kept) = rig.pair(STREAM);
    for _ in 0..20 {
        let (a, b) = rig.pair(STREAM);
        let (file_a, file_b) = (rig.file(&a), rig.file(&b));
        rig.send_files(&a, b"x", vec![file_a.clone(), witness.clone()]).unwrap();
        rig.send_files(&b, b"x", vec![file_b.clone()]).unwrap();
    }
    let (c, d) = rig.pair(STREAM);
    let file_d = rig.file(&d);
    rig.send_files(&c, b"x", vec![file_d.clone()]).unwrap();
    rig.send_files(&keeper, b"x", vec![file_d.clone()]).unwrap();
    drop((file_d, c, d));
    let unix = keeper.as_any().downcast_ref::<UnixSocket>().unwrap();
    assert_eq!(unix.collect_now(), 1);
    assert_eq!(Arc::strong_count(&witness), 1);
    let (_, received) = rig.receive_with(&kept, 5, MsgFlags::empty()).unwrap();
    let Some(Control::Rights(files)) = received.control.first() else { unreachable!("a socket was sent") };
    let survivor = crate::family::socket_of(&files[0]).unwrap();
    assert_eq!(rig.receive(survivor, 5), Ok(b"x".to_vec()));
}

/// A long chain of sockets in queues of sockets is closed without deep recursion.
#[test]
fn deep_chains_are_closed() {
    let rig = Rig::new();
    let witness = some_file();
    let mut inner = witness.clone();
    for _ in 0..5000 {
        let (a, b) = rig.pair(DATAGRAM);
        rig.send_files(&a, b"", vec![inner]).unwrap();
        inner = rig.file(&b);
    }
    drop(inner);
    assert_eq!(Arc::strong_count(&witness), 1);
}

#[test]
fn in_flight_descriptors_are_bounded() {
    let rig = Rig::new();
    let (a, b) = rig.pair(STREAM);
    let file = some_file();
    let mut sent = 0;
    let refused = loop {
        match rig.send_files(&a, b"x", vec![file.clone(); 253]) {
            Ok(_) => sent += 1,
            Err(e) => break e,
        }
    };
    assert_eq!((sent, refused), (16384 / 253, Errno::ETOOMANYREFS));
    drop(b);
    drop(a);
    assert_eq!(Arc::strong_count(&file), 1);
}

#[test]
fn threads_exchange_a_stream() {
    let rig = Rig::new();
    let (a, b) = rig.pair(STREAM);
    let writer = std::thread::spawn(move || {
        let (who, mut left) = (Person::root(), 4 << 20);
        while left > 0 {
            let chunk = vec![left as u8; left.min(10_000)];
            match a.send(&who, &NoNames, Outgoing { data: &chunk, ..Outgoing::default() }) {
                Ok(n) => left -= n,
                Err(_) => std::thread::yield_now(),
            }
        }
    });
    let mut got = 0;
    loop {
        match rig.receive(&b, 8192) {
            Ok(data) if data.is_empty() => break,
            Ok(data) => got += data.len(),
            Err(Errno::EAGAIN) => std::thread::yield_now(),
            Err(e) => unreachable!("{e}"),
        }
    }
    writer.join().unwrap();
    assert_eq!(got, 4 << 20);
    assert_eq!(SocketKind::from_raw(5), Ok(SocketKind::SeqPacket));
}
