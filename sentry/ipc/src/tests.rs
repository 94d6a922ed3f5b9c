use std::io::{IoSlice, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};

use crate::{Call, Channel, ChannelPool, IpcError, Protocol, Request, Server, codec, seqpacket_pair};

const TEST: Protocol = Protocol::new(*b"test", 1);

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Reverse {
    bytes: Vec<u8>,
}
impl Call for Reverse {
    const TAG: u16 = 1;
    type Reply = Vec<u8>;
}

/// Answers with as many copies of the first descriptor as asked for.
#[derive(Serialize, Deserialize)]
struct Dup {
    count: u8,
}
impl Call for Dup {
    const TAG: u16 = 2;
    type Reply = Result<u32, i32>;
}

fn handle(request: Request) -> Result<crate::Answer, IpcError> {
    match request.tag() {
        Reverse::TAG => request.answer(|call: Reverse, _| call.bytes.into_iter().rev().collect()),
        Dup::TAG => request.answer_with_fds(|call: Dup, fds| {
            let copies = (0..call.count).filter_map(|_| fds.first().and_then(|fd| fd.try_clone().ok())).collect();
            (Ok(fds.len() as u32), copies)
        }),
        _ => Err(request.unknown()),
    }
}

fn serve(socket: OwnedFd) -> thread::JoinHandle<Result<(), IpcError>> {
    thread::spawn(move || Server::new(socket).serve(TEST, handle))
}

#[test]
fn calls_of_every_size() {
    let (a, b) = seqpacket_pair().unwrap();
    let server = serve(b);
    let channel = Channel::new(a);
    channel.hello(TEST).unwrap();
    for size in [0, 1, 65_530, 65_536, 65_537, 200_000, 1_000_000] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let expected: Vec<u8> = bytes.iter().rev().copied().collect();
        assert_eq!(channel.call(&Reverse { bytes }).unwrap(), expected);
    }
    let too_large = channel.call(&Reverse { bytes: vec![0; 1 << 20] });
    assert!(matches!(too_large, Err(IpcError::Encode(_) | IpcError::TooLarge(_))), "{too_large:?}");
    assert_eq!(channel.call(&Reverse { bytes: vec![1, 2] }).unwrap(), [2, 1], "a refused call leaves the channel usable");
    drop(channel);
    server.join().unwrap().unwrap();
}

#[test]
fn descriptors_cross_both_ways() {
    let (a, b) = seqpacket_pair().unwrap();
    let _server = serve(b);
    let channel = Channel::new(a);
    channel.hello(TEST).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for count in [0, 1, 64] {
        let given = vec![file.as_fd(); usize::from(count)];
        let (reply, fds) = channel.call_with_fds(&Dup { count }, &given).unwrap();
        assert_eq!(reply, Ok(u32::from(count)));
        assert_eq!(fds.len(), usize::from(count));
        for fd in &fds {
            assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
    }
    assert!(matches!(channel.call_with_fds(&Dup { count: 0 }, &vec![file.as_fd(); 65]), Err(IpcError::TooManyFds(65))));
    assert!(channel.call(&Reverse { bytes: vec![] }).is_ok());
}

#[test]
fn threads_share_a_pool() {
    let mut ours = Vec::new();
    for _ in 0..3 {
        let (a, b) = seqpacket_pair().unwrap();
        serve(b);
        ours.push(a);
    }
    let pool = ChannelPool::new(ours);
    pool.hello(TEST).unwrap();
    thread::scope(|scope| {
        for n in 0..8u8 {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..200 {
                    assert_eq!(pool.call(&Reverse { bytes: vec![n, 7] }).unwrap(), [7, n]);
                }
            });
        }
    });
    assert!(matches!(ChannelPool::new(vec![]).call(&Reverse { bytes: vec![] }), Err(IpcError::Closed)));
}

#[test]
fn versions_must_agree() {
    let (a, b) = seqpacket_pair().unwrap();
    let server = serve(b);
    let error = Channel::new(a).hello(Protocol::new(*b"test", 2)).unwrap_err();
    assert!(matches!(error, IpcError::Version { .. }));
    assert!(matches!(server.join().unwrap(), Err(IpcError::Version { .. })));
}

#[test]
fn calls_before_the_greeting_are_refused() {
    let (a, b) = seqpacket_pair().unwrap();
    let server = serve(b);
    assert!(Channel::new(a).call(&Reverse { bytes: vec![] }).is_err());
    assert!(matches!(server.join().unwrap(), Err(IpcError::UnknownCall(1))));
}

#[test]
fn a_dead_peer_breaks_the_channel() {
    let (a, b) = seqpacket_pair().unwrap();
    drop(b);
    let channel = Channel::new(a);
    assert!(matches!(channel.hello(TEST), Err(IpcError::Closed)));
    assert!(matches!(channel.hello(TEST), Err(IpcError::Broken)));
}

fn raw(socket: &OwnedFd, bytes: &[u8]) {
    sendmsg(socket, &[IoSlice::new(bytes)], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL).unwrap();
}

fn header(magic: u16, tag: u16, total: u32, offset: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.write_all(&magic.to_le_bytes()).unwrap();
    bytes.write_all(&tag.to_le_bytes()).unwrap();
    bytes.write_all(&total.to_le_bytes()).unwrap();
    bytes.write_all(&offset.to_le_bytes()).unwrap();
    bytes
}

#[test]
fn hostile_packets_end_the_channel_only() {
    let with = |mut head: Vec<u8>, tail: &[u8]| {
        head.extend_from_slice(tail);
        head
    };
    let cases: Vec<Vec<Vec<u8>>> = vec![
        vec![vec![0]],
        vec![vec![0xff; 70_000]],
        vec![header(0x6353, 1, 0, 0)],
        vec![header(0x1234, 0, 0, 0)],
        vec![header(0x6353, 0, u32::MAX, 0)],
        vec![header(0x6353, 0, 4, 4)],
        vec![with(header(0x6353, 0, 1, 0), b"too long")],
        vec![with(header(0x6353, 0, 4, 0), b"ab"), with(header(0x6353, 1, 4, 2), b"cd")],
        vec![with(header(0x6353, 0, 4, 0), b"ab"), with(header(0x6353, 0, 4, 1), b"cd")],
        vec![with(header(0x6353, 0, 4, 0), b"ab"), header(0x6353, 0, 4, 2)],
        vec![with(header(0x6353, 0, 4, 0), b"ab"), with(header(0x6353, 0, 4, 2), b"cdef")],
        vec![with(header(0x6353, 0, 20, 0), &[0xff; 20])],
    ];
    for case in cases {
        let (a, b) = seqpacket_pair().unwrap();
        for packet in &case {
            raw(&a, packet);
        }
        drop(a);
        assert!(Server::new(b).serve(TEST, handle).is_err(), "{case:?}");
    }
}

#[test]
fn too_many_descriptors_are_refused() {
    let (a, b) = seqpacket_pair().unwrap();
    let fds = vec![a.as_fd(); 65];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(65))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&a, &[IoSlice::new(&header(0x6353, 0, 0, 0))], &mut control, SendFlags::NOSIGNAL).unwrap();
    assert!(matches!(Server::new(b).serve(TEST, handle), Err(IpcError::Framing("too many descriptors"))));
}

#[test]
fn decoding_is_bounded() {
    // A vector of 2^60 bytes; bytes after the message; nothing at all.
    let cases: [&[u8]; 3] = [&[253, 0, 0, 0, 0, 0, 0, 0, 16], &[0, 0], &[]];
    for bytes in cases {
        assert!(matches!(codec::decode::<Vec<u8>>(bytes), Err(IpcError::Decode(_))), "{bytes:?}");
    }
    // The layout is a contract between processes started from the same binary, pinned so that a change is noticed.
    assert_eq!(codec::encode(&Reverse { bytes: vec![1, 2] }).unwrap(), [2, 1, 2]);
}
