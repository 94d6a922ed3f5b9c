//! Socket calls over AF_UNIX.

use std::time::{Duration, Instant};

use sentry_abi::{Errno, Signal, nr};
use sentry_kernel::{Restart, Stop};

use crate::testing::{Guest, World};

const UNIX: u64 = 1;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const NONBLOCK: u64 = 0o4000;
const DONTWAIT: u64 = 0x40;
const PEEK: u64 = 2;
const TRUNC: u64 = 0x20;
const WAITALL: u64 = 0x100;

fn pair(g: &mut Guest, kind: u64) -> (u64, u64) {
    let at = g.room(8);
    g.ok(nr::SOCKETPAIR, &[UNIX, kind, 0, at]);
    (g.int(at) as u64, g.int(at + 4) as u64)
}

fn address(g: &mut Guest, path: &str) -> (u64, u64) {
    let bytes = [&[1, 0], path.as_bytes(), &[0]].concat();
    (g.put(&bytes), bytes.len() as u64)
}

/// A `struct msghdr` with one buffer.
fn header(g: &mut Guest, data: (u64, u64), control: (u64, u64)) -> u64 {
    let iov = g.put(&[data.0, data.1].map(u64::to_le_bytes).concat());
    g.put(&[0, 0, iov, 1, control.0, control.1, 0].map(u64::to_le_bytes).concat())
}

#[test]
fn a_pair_talks() {
    let world = World::new();
    let mut g = world.process();
    let (a, b) = pair(&mut g, STREAM | NONBLOCK);
    assert_eq!(g.write(a, b"hello"), Ok(5));
    let buf = g.room(100);
    assert_eq!(g.ok(nr::RECVFROM, &[b, buf, 3, PEEK, 0, 0]), 3);
    assert_eq!(g.ok(nr::RECVFROM, &[b, buf, 100, 0, 0, 0]), 5);
    assert_eq!(g.get(buf, 5), b"hello");
    assert_eq!(g.err(nr::RECVFROM, &[b, buf, 100, 0, 0, 0]), Errno::EAGAIN);
    g.ok(nr::SHUTDOWN, &[a, 1]);
    assert_eq!(g.ok(nr::RECVFROM, &[b, buf, 100, 0, 0, 0]), 0);
    g.ok(nr::CLOSE, &[a]);
    let mask = g.put(&(1u64 << 12).to_le_bytes());
    g.ok(nr::RT_SIGPROCMASK, &[0, mask, 0, 8]);
    assert_eq!(g.err(nr::SENDTO, &[b, buf, 1, 0x4000, 0, 0]), Errno::EPIPE);
    assert!(!g.task.task.pending_set().contains(Signal::SIGPIPE));
    assert_eq!(g.write(b, b"x"), Err(Errno::EPIPE.into()));
    assert!(g.task.task.pending_set().contains(Signal::SIGPIPE));
    let file = g.file("/f", b"");
    assert_eq!(g.err(nr::SHUTDOWN, &[file, 1]), Errno::ENOTSOCK);
}

#[test]
fn a_large_stream_goes_through_while_the_other_side_reads() {
    let world = World::new();
    let mut g = world.process();
    let (a, b) = pair(&mut g, STREAM);
    let big: Vec<u8> = (0..1_000_000u32).map(|i| (i / 3) as u8).collect();
    let files = g.task.files();
    let expected = big.clone();
    let reader = std::thread::spawn(move || {
        let world = World::new();
        let mut other = world.sharing(files);
        let buf = other.room(1_000_000);
        assert_eq!(other.ok(nr::RECVFROM, &[b, buf, 1_000_000, WAITALL, 0, 0]), 1_000_000);
        assert!(other.get(buf, 1_000_000) == expected);
    });
    let at = g.put(&big);
    assert_eq!(g.ok(nr::SENDTO, &[a, at, 1_000_000, 0, 0, 0]), 1_000_000);
    reader.join().unwrap();
}

#[test]
fn datagrams_keep_their_borders() {
    let world = World::new();
    let mut g = world.process();
    let (a, b) = pair(&mut g, DATAGRAM);
    g.write(a, b"first").unwrap();
    g.write(a, b"second").unwrap();
    let buf = g.room(100);
    assert_eq!(g.ok(nr::RECVFROM, &[b, buf, 3, TRUNC, 0, 0]), 5);
    assert_eq!(g.get(buf, 3), b"fir");
    let data = g.room(4);
    let message = header(&mut g, (data, 4), (0, 0));
    assert_eq!(g.ok(nr::RECVMSG, &[b, message, 0]), 4);
    assert_eq!(g.int(message + 48), 0x20);
    let at = g.put(&[1; 64]);
    assert_eq!(g.err(nr::SENDTO, &[a, at, 2 << 20, 0, 0, 0]), Errno::EMSGSIZE);
    let (one, two) = (header(&mut g, (at, 3), (0, 0)), header(&mut g, (at, 5), (0, 0)));
    let (one, two) = ([g.get(one, 56), vec![0; 8]].concat(), [g.get(two, 56), vec![0; 8]].concat());
    let both = g.put(&[one, two].concat());
    assert_eq!(g.ok(nr::SENDMMSG, &[a, both, 2, 0]), 2);
    assert_eq!((g.int(both + 56), g.int(both + 64 + 56)), (3, 5));
    assert_eq!(g.ok(nr::RECVMMSG, &[b, both, 2, DONTWAIT, 0]), 2);
    assert_eq!(g.err(nr::RECVMMSG, &[b, both, 2, DONTWAIT, 0]), Errno::EAGAIN);
}

#[test]
fn servers_and_clients_meet_by_name() {
    let world = World::new();
    let mut g = world.process();
    let server = g.ok(nr::SOCKET, &[UNIX, STREAM, 0]);
    let (at, len) = address(&mut g, "/sock");
    g.ok(nr::BIND, &[server, at, len]);
    g.ok(nr::LISTEN, &[server, 5]);
    let again = g.ok(nr::SOCKET, &[UNIX, STREAM, 0]);
    assert_eq!(g.err(nr::BIND, &[again, at, len]), Errno::EADDRINUSE);
    assert_eq!(g.err(nr::BIND, &[again, at, 200]), Errno::EINVAL);
    std::thread::scope(|scope| {
        let world = &world;
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            let mut client = world.process();
            let fd = client.ok(nr::SOCKET, &[UNIX, STREAM, 0]);
            let (at, len) = address(&mut client, "/sock");
            client.ok(nr::CONNECT, &[fd, at, len]);
            client.write(fd, b"hi").unwrap();
            let (name, room) = (client.room(110), client.put(&110i32.to_le_bytes()));
            client.ok(nr::GETPEERNAME, &[fd, name, room]);
            assert_eq!(client.get(name, client.int(room) as usize), b"\x01\0/sock\0");
        });
        let fd = g.ok(nr::ACCEPT4, &[server, 0, 0, 0o2000000]);
        assert_eq!(g.ok(nr::FCNTL, &[fd, 1]), 1);
        assert_eq!(g.read(fd, 10).unwrap(), b"hi");
    });
    let (missing, len) = address(&mut g, "/nowhere");
    assert_eq!(g.err(nr::CONNECT, &[again, missing, len]), Errno::ENOENT);
}

#[test]
fn descriptors_travel() {
    let world = World::new();
    let mut g = world.process();
    let (a, b) = pair(&mut g, STREAM);
    let file = g.file("/f", b"content");
    let control = [&20u64.to_le_bytes()[..], &1i32.to_le_bytes(), &1i32.to_le_bytes(), &(file as i32).to_le_bytes(), &[0; 4]].concat();
    let control = g.put(&control);
    let data = g.put(b"x");
    let message = header(&mut g, (data, 1), (control, 24));
    assert_eq!(g.ok(nr::SENDMSG, &[a, message, 0]), 1);
    g.ok(nr::CLOSE, &[file]);
    let control = g.room(64);
    let message = header(&mut g, (data, 1), (control, 64));
    assert_eq!(g.ok(nr::RECVMSG, &[b, message, 0x4000_0000]), 1);
    assert_eq!(g.word(message + 40), 24);
    let received = g.int(control + 16) as u64;
    assert_eq!(g.read(received, 100).unwrap(), b"content");
    assert_eq!(g.ok(nr::FCNTL, &[received, 1]), 1);
    let bad = g.put(&[&20u64.to_le_bytes()[..], &1i32.to_le_bytes(), &1i32.to_le_bytes(), &99i32.to_le_bytes(), &[0; 4]].concat());
    let message = header(&mut g, (data, 1), (bad, 24));
    assert_eq!(g.err(nr::SENDMSG, &[a, message, 0]), Errno::EBADF);
}

#[test]
fn waits_end_by_time_and_by_signal() {
    let world = World::new();
    let mut g = world.process();
    let (a, _b) = pair(&mut g, STREAM);
    let time = g.put(&[0u64, 30_000].map(u64::to_le_bytes).concat());
    g.ok(nr::SETSOCKOPT, &[a, 1, 20, time, 16]);
    let buf = g.room(10);
    let before = Instant::now();
    assert_eq!(g.err(nr::RECVFROM, &[a, buf, 10, 0, 0, 0]), Errno::EAGAIN);
    assert_eq!(g.read(a, 10), Err(Errno::EAGAIN.into()));
    assert!(before.elapsed() >= Duration::from_millis(60));
    Guest::signal(&g.task.task.clone(), Signal::SIGUSR1);
    assert_eq!(g.err(nr::RECVFROM, &[a, buf, 10, 0, 0, 0]), Errno::EINTR);
    let never = g.put(&[0u64, 0].map(u64::to_le_bytes).concat());
    g.ok(nr::SETSOCKOPT, &[a, 1, 20, never, 16]);
    assert_eq!(g.call(nr::RECVFROM, &[a, buf, 10, 0, 0, 0]), Err(Stop::Restart(Restart::IfAllowed)));
    let (value, room) = (g.room(8), g.put(&4i32.to_le_bytes()));
    g.ok(nr::GETSOCKOPT, &[a, 1, 3, value, room]);
    assert_eq!((g.int(value), g.int(room)), (1, 4));
    assert_eq!(g.err(nr::SOCKET, &[99, 1, 0]), Errno::EAFNOSUPPORT);
    assert_eq!(g.err(nr::SOCKET, &[UNIX, 1 | 1 << 20, 0]), Errno::EINVAL);
}
