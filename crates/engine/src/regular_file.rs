//! Configuration files: regular files alone, and no larger than a limit.
//!
//! A FIFO blocks its reader, a device may have no end, and both may stand behind a symbolic link.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use nix::fcntl::OFlag;

/// Opens a regular file for reading. Follows symbolic links.
pub fn open(path: &Path) -> io::Result<File> {
    // To open a device may have an effect of its own.
    regular(&fs::metadata(path)?)?;
    // The file may be replaced meanwhile: a FIFO that is opened so does not block.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file whole. One of more than `max` bytes is an error. Blocks.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(read).unwrap_or(u64::MAX) > max {
        true => Err(io::Error::other(format!("it is larger than {} MiB", max >> 20))),
        false => Ok(bytes),
    }
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::other(format!("it is {found}, and has to be a file")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn regular_files_alone_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "text").unwrap();
        fs::create_dir(at("folder")).unwrap();
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for (link, to) in [("link", "file"), ("link2", "link"), ("to_fifo", "fifo"), ("dangling", "nowhere")]
        {
            symlink(to, at(link)).unwrap();
        }
        symlink("/dev/zero", at("zero")).unwrap();
        let cases = [
            ("file", Ok("text")),
            ("link", Ok("text")),
            ("link2", Ok("text")),
            ("folder", Err("it is a folder")),
            ("fifo", Err("it is a FIFO")),
            ("to_fifo", Err("it is a FIFO")),
            ("socket", Err("it is a socket")),
            ("zero", Err("it is a device")),
            ("dangling", Err("No such file")),
        ];
        for (name, expected) in cases {
            let found = read(&at(name), 4).map_err(|error| error.to_string());
            match expected {
                Ok(text) => assert_eq!(found, Ok(text.as_bytes().to_vec()), "{name}"),
                Err(why) => assert!(found.as_ref().is_err_and(|it| it.contains(why)), "{name}: {found:?}"),
            }
        }
        assert!(read(&at("file"), 3).unwrap_err().to_string().contains("larger"));
    }
}
