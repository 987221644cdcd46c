//! Where jobs live, if the VMs' users may not pass through to the state folder (below `/root`, say).
//!
//! Then a VM's `jobs` is a symbolic link into `/var/tmp/pileus-<marker>/`, or `/tmp`'s. Without it
//! no absolute path of a job's own would work: `cd` of some shells, `$HOME`, `$TMPDIR`.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{folder, process::Marker};

const PLACES: [&str; 2] = ["/var/tmp", "/tmp"];

/// Whether everybody may pass through a folder and all above it.
pub(super) fn is_open(folder: &Path) -> bool {
    folder.ancestors().all(|ancestor| fs::metadata(ancestor).is_ok_and(|found| found.mode() & 0o001 != 0))
}

/// The folder for a VM's jobs, made if it is not there; its owner is still to be set.
pub(super) fn make(marker: &Marker, vm: &str) -> io::Result<PathBuf> {
    let mut problem = io::Error::from(ErrorKind::NotFound);
    for place in PLACES {
        let room = room(place, marker);
        let made = DirBuilder::new().mode(0o711).create(&room).or_else(|error| match is_ours(&room) {
            true => Ok(()),
            false => Err(error),
        });
        let made = made.and_then(|()| {
            // The umask may have taken what others are to have.
            fs::set_permissions(&room, Permissions::from_mode(0o711))?;
            DirBuilder::new().recursive(true).mode(0o700).create(room.join(vm))
        });
        match made {
            Ok(()) => return Ok(room.join(vm)),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

/// Removes a VM's folder, and with the last one the room.
pub(super) fn remove(marker: &Marker, vm: &str) -> io::Result<()> {
    for room in PLACES.map(|place| room(place, marker)) {
        if is_ours(&room) {
            folder::remove_tree(&room.join(vm))?;
            // Fails as long as another VM has a folder there, and then it must.
            let _ = fs::remove_dir(&room);
        }
    }
    Ok(())
}

fn room(place: &str, marker: &Marker) -> PathBuf {
    Path::new(place).join(format!("pileus-{}", marker.0))
}

/// Anybody may make a folder there, or a link that leads elsewhere.
fn is_ours(room: &Path) -> bool {
    fs::symlink_metadata(room).is_ok_and(|found| {
        found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o022 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_closed_door_closes_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner) = (dir.path().join("outer"), dir.path().join("outer/inner"));
        fs::create_dir_all(&inner).unwrap();
        for (modes, open) in
            [([0o755, 0o711, 0o711], true), ([0o711, 0o700, 0o755], false), ([0o711, 0o755, 0o750], false)]
        {
            for (folder, mode) in [dir.path(), &outer, &inner].into_iter().zip(modes) {
                fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
            }
            assert_eq!(is_open(&inner), open, "{modes:?}");
        }
    }

    #[test]
    fn a_room_is_made_and_goes_with_its_last_vm() {
        let marker = Marker(format!("test-{}", std::process::id()));
        let (one, two) = (make(&marker, "one").unwrap(), make(&marker, "two").unwrap());
        assert_eq!(make(&marker, "one").unwrap(), one);
        remove(&marker, "one").unwrap();
        assert!(!one.exists() && two.exists());
        remove(&marker, "two").unwrap();
        assert!(!two.parent().unwrap().exists());
        remove(&marker, "two").unwrap();
    }

    #[test]
    fn a_link_in_its_place_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(is_ours(dir.path()) && !is_ours(&link));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(!is_ours(dir.path()));
    }
}
