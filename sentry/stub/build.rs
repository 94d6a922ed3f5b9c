//! Builds the stub blob: `$RUSTC` on `src/blob.rs`, linked by the toolchain's own lld to a flat file (CRATES.md section 5).

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let sources = ["blob", "boot", "direct", "entry", "futex", "handoff", "layout", "sys", "trap"];
    for source in sources {
        println!("cargo:rerun-if-changed=src/{source}.rs");
    }
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let elf = out.join("stub.elf");
    build(&here, &elf, &[]);
    build(&here, &out.join("stub.blob"), &["--oformat=binary"]);
}

fn build(here: &std::path::Path, output: &std::path::Path, extra: &[&str]) {
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER"] {
        rustc.env_remove(variable);
    }
    rustc
        .arg(here.join("src/blob.rs"))
        .args(["--crate-name", "stub_blob", "--crate-type", "bin", "--edition", "2024", "--target"])
        .arg(env::var_os("TARGET").expect("cargo sets TARGET"))
        .args(["-Copt-level=s", "-Cpanic=abort", "-Crelocation-model=pic", "-Clto=fat", "-Ccodegen-units=1", "-Cno-redzone=yes"])
        .args(["-Ctarget-feature=+crt-static,-sse,-sse2", "-Cdebug-assertions=off", "-Coverflow-checks=off", "-Cforce-frame-pointers=no"])
        .args(["-Clinker=rust-lld", "-Clinker-flavor=ld.lld", "-Cdefault-linker-libraries=no"]);
    for arg in ["--no-dynamic-linker", "--build-id=none", "--gc-sections", "-znorelro", "-ztext", "-no-pie", "-T"] {
        rustc.arg(format!("-Clink-arg={arg}"));
    }
    rustc.arg(format!("-Clink-arg={}", here.join("link.ld").display()));
    for arg in extra {
        rustc.arg(format!("-Clink-arg={arg}"));
    }
    let done = rustc.arg("-Awarnings").arg("-o").arg(output).status().expect("rustc runs");
    assert!(done.success(), "the stub blob could not be built");
}
