//! Builds the kernel programs and hands their object to `include_bytes_aligned!`.
//!
//! The eBPF build is a cargo of its own with an environment of its own: nothing of the outer
//! cargo (`RUSTUP_TOOLCHAIN`, `RUSTC*`, `CARGO_*`, `RUSTFLAGS`) may leak into it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The linker that `cargo xtask setup` builds (xtask/src/setup), below the user's cache folder.
const CACHED_LINKER: &str = "lockwatt/bpf-linker-0.13.0-llvm22/bin";
const TARGET: &str = "bpfel-unknown-none";
const SETUP: &str = "run `cargo xtask setup` once, which installs it (or says what to install)";

fn main() {
    if let Err(sentence) = build() {
        // Fails the build by itself; a failed build script would add everything it printed.
        println!("cargo::error={sentence}");
    }
}

fn build() -> Result<(), String> {
    for path in ["tracer-ebpf/src", "tracer-ebpf/Cargo.toml", "tracer-common/src", "Cargo.lock"] {
        println!("cargo::rerun-if-changed=../{path}");
    }
    println!("cargo::rerun-if-env-changed=LOCKWATT_BPF_LINKER");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let linker = find_linker()?;
    println!("cargo::rerun-if-changed={}", linker.display());
    let compiler = Compiler::find()?;
    let arch = match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "x86_64",
        other => return Err(format!("lockwatt's kernel programs know x86_64 only, not {other}")),
    };
    let workspace = Path::new(&variable("CARGO_MANIFEST_DIR")?)
        .parent()
        .map(Path::to_path_buf)
        .ok_or("the tracer package has no parent folder")?;
    let flags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ]
    .join("\x1f");
    let mut cargo = compiler.cargo(&linker);
    cargo
        .args(["build", "--package", "tracer-ebpf", "--release", "--locked", "--target", TARGET])
        .args(compiler.build_std())
        .arg("--target-dir")
        .arg(out.join("ebpf"))
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .current_dir(workspace);
    let output = cargo
        .output()
        .map_err(|e| format!("the eBPF build could not be started ({e}); {SETUP}"))?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        for line in log.lines().filter(|line| !line.trim_start().starts_with("Compiling")) {
            println!("cargo::warning={line}");
        }
        return Err(format!(
            "the kernel programs did not build with {} (its messages are above); if the tools \
             themselves are at fault, {SETUP}",
            compiler.name()
        ));
    }
    let object = out.join("ebpf").join(TARGET).join("release/tracer-ebpf");
    std::fs::copy(&object, out.join("lockwatt-ebpf.o"))
        .map_err(|e| format!("the eBPF build left no object at {}: {e}", object.display()))?;
    Ok(())
}

/// Debian's rustc with its prebuilt `core` for BPF, or rustup's nightly with rust-src.
enum Compiler {
    Debian,
    Nightly { rustup: PathBuf },
}

impl Compiler {
    fn find() -> Result<Self, String> {
        let debian = clean("/usr/bin/rustc", "/usr/bin:/bin")
            .args(["--print", "target-libdir", "--target", TARGET])
            .output()
            .is_ok_and(|output| {
                let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
            });
        if debian && Path::new("/usr/bin/cargo").exists() {
            return Ok(Self::Debian);
        }
        let Some(rustup) = on_path("rustup") else { return Err(missing("a Rust compiler")) };
        let sysroot = clean(&rustup, &path())
            .args(["run", "nightly", "rustc", "--print", "sysroot"])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default();
        if Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").exists() {
            return Ok(Self::Nightly { rustup });
        }
        Err(missing("a Rust compiler"))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Debian => "Debian's rustc",
            Self::Nightly { .. } => "rustup's nightly",
        }
    }

    fn cargo(&self, linker: &Path) -> Command {
        let bin = linker.parent().unwrap_or(Path::new("/")).display();
        match self {
            Self::Debian => {
                let mut cargo = clean("/usr/bin/cargo", &format!("{bin}:/usr/bin:/bin"));
                // aya-ebpf needs an unstable feature; core itself comes prebuilt.
                cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
            Self::Nightly { rustup } => {
                let mut cargo = clean(rustup, &format!("{bin}:{}", path()));
                cargo.args(["run", "nightly", "cargo"]);
                cargo
            }
        }
    }

    fn build_std(&self) -> &'static [&'static str] {
        match self {
            Self::Debian => &[],
            Self::Nightly { .. } => &["-Z", "build-std=core"],
        }
    }
}

/// A command that inherits nothing but where the user's files are.
fn clean(program: impl AsRef<std::ffi::OsStr>, path: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path);
    for name in ["HOME", "RUSTUP_HOME", "TMPDIR", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy"] {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn find_linker() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("LOCKWATT_BPF_LINKER").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("LOCKWATT_BPF_LINKER names {}, which is not there", path.display()))
        };
    }
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache
        .map(|cache| cache.join(CACHED_LINKER).join("bpf-linker"))
        .filter(|linker| linker.is_file())
        .or_else(|| on_path("bpf-linker"))
        .ok_or_else(|| missing("bpf-linker"))
}

fn missing(what: &str) -> String {
    format!("no eBPF toolchain ({what} for {TARGET} is missing): {SETUP}")
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&path()).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn path() -> String {
    env::var("PATH").unwrap_or_default()
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
