//! The netstack's process: the sandbox's TCP/IP, in a network namespace of its own. Linked into runsc as `runsc netstack`.
//!
//! It has a loopback only, and no sockets yet: it greets, says that it lives, and ends when the sentry has closed its channel.
#![forbid(unsafe_code)]

use std::process;

use runsc_control::{BOOT_FD, NETSTACK, NetstackBoot, NetstackHello};
use sentry_confine::Profile;
use sentry_ipc::{Call as _, Server};

/// Runs the netstack; never returns.
pub fn boot() -> ! {
    match serve() {
        Ok(()) => process::exit(0),
        Err(error) => {
            eprintln!("netstack: {error:#}");
            process::exit(1)
        }
    }
}

fn serve() -> anyhow::Result<()> {
    sentry_confine::hide("runsc-netstack")?;
    let boot = NetstackBoot::read(sentry_confine::take(BOOT_FD)?)?;
    let channel = sentry_confine::take(boot.channel)?;
    sentry_confine::lock_down(&Profile::netstack()?)?;
    Server::new(channel).serve(NETSTACK, |request| match request.tag() {
        NetstackHello::TAG => request.answer(|NetstackHello, _| ()),
        _ => Err(request.unknown()),
    })?;
    Ok(())
}
