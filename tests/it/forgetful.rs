//! A mounted file system that forgets what was not synced: `sim::Disk` behind FUSE, so that another process uses it with real
//! system calls. Mounting needs root and /dev/fuse, nothing else.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use feedgate::outside::{Disk as _, DiskFile};
use feedgate::sim;
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

/// Names change only through the kernel, so it may remember them.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// The name of the mounted directory on the simulated disk.
const ROOT: &str = "/mounted";
const BLOCK: u32 = 4096;

/// A disk that is mounted, until dropped.
pub struct Mounted {
    pub disk: sim::Disk,
    session: Option<BackgroundSession>,
}

impl Mounted {
    #[track_caller]
    pub fn mount(disk: sim::Disk, directory: &Path) -> Mounted {
        disk.create_dir(ROOT.as_ref()).expect("a new disk is on");
        let session = fuser::spawn_mount(Adapter::new(disk.clone()), directory, &Config::default());
        let session = session.unwrap_or_else(|error| panic!("this test mounts a file system: root and /dev/fuse ({error})"));
        Mounted { disk, session: Some(session) }
    }

    /// Power is gone; whoever had files open must be too. What a power cut leaves of the disk.
    pub fn after_power_cut(mut self) -> sim::Disk {
        self.unmount().expect("nobody uses it any more");
        self.disk.after_power_cut()
    }

    /// Back in a moment; nothing is lost.
    pub fn unmount(&mut self) -> io::Result<()> {
        self.session.take().map_or(Ok(()), BackgroundSession::umount_and_join)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

/// Inodes and file handles in front of the disk, which knows names.
struct Adapter {
    disk: sim::Disk,
    known: Mutex<Known>,
}

#[derive(Clone)]
enum Kind {
    Directory,
    File(Arc<dyn DiskFile>),
    /// Never on the disk: gone with the mount.
    Socket,
}

#[derive(Default)]
struct Known {
    /// Where each inode is, and what.
    nodes: BTreeMap<u64, (PathBuf, Kind)>,
    numbers: BTreeMap<PathBuf, u64>,
    last: u64,
}

impl Known {
    fn add(&mut self, path: PathBuf, kind: Kind) -> u64 {
        self.last += 1;
        self.numbers.insert(path.clone(), self.last);
        self.nodes.insert(self.last, (path, kind));
        self.last
    }
}

impl Adapter {
    fn new(disk: sim::Disk) -> Adapter {
        let mut known = Known::default();
        assert_eq!(known.add(ROOT.into(), Kind::Directory), INodeNo::ROOT.0);
        Adapter { disk, known: known.into() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics with it in hand")
    }

    fn path(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        let known = self.known();
        Ok(known.nodes.get(&parent.0).ok_or(io::ErrorKind::NotFound)?.0.join(name))
    }

    fn kind(&self, node: INodeNo) -> io::Result<Kind> {
        Ok(self.known().nodes.get(&node.0).ok_or(io::ErrorKind::NotFound)?.1.clone())
    }

    /// `None`: not known yet.
    fn kind_of(&self, path: &Path) -> io::Result<Option<Kind>> {
        let number = self.known().numbers.get(path).copied();
        number.map(|number| self.kind(INodeNo(number))).transpose()
    }

    fn file(&self, node: INodeNo) -> io::Result<Arc<dyn DiskFile>> {
        match self.kind(node)? {
            Kind::File(file) => Ok(file),
            Kind::Directory | Kind::Socket => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn look_up(&self, path: PathBuf) -> io::Result<FileAttr> {
        let number = self.known().numbers.get(&path).copied();
        let number = match number {
            Some(number) => number,
            None if self.disk.is_directory(&path) => self.known().add(path, Kind::Directory),
            None => {
                let file = self.disk.open(&path)?;
                self.known().add(path, Kind::File(file))
            }
        };
        self.attributes(INodeNo(number))
    }

    fn attributes(&self, node: INodeNo) -> io::Result<FileAttr> {
        let (kind, perm, size) = match self.kind(node)? {
            Kind::Directory => (FileType::Directory, 0o700, 0),
            Kind::File(file) => (FileType::RegularFile, 0o600, file.len()?),
            Kind::Socket => (FileType::Socket, 0o600, 0),
        };
        let time = UNIX_EPOCH;
        Ok(FileAttr {
            ino: node,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        })
    }

    fn create_file(&self, parent: INodeNo, name: &OsStr) -> io::Result<FileAttr> {
        let path = self.path(parent, name)?;
        let file = self.disk.create(&path)?;
        let number = self.known().add(path, Kind::File(file));
        self.attributes(INodeNo(number))
    }

    fn move_name(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.kind_of(from)? {
            Some(Kind::Socket) => {}
            Some(Kind::Directory) => return Err(io::ErrorKind::Unsupported.into()),
            Some(Kind::File(_)) | None => self.disk.rename(from, to)?,
        }
        let mut known = self.known();
        if let Some(number) = known.numbers.remove(from) {
            known.numbers.insert(to.to_owned(), number);
            if let Some((path, _)) = known.nodes.get_mut(&number) {
                to.clone_into(path);
            }
        }
        Ok(())
    }

    fn list(&self, directory: INodeNo) -> io::Result<Vec<(u64, FileType, String)>> {
        let path = self.known().nodes.get(&directory.0).ok_or(io::ErrorKind::NotFound)?.0.clone();
        let files = self.disk.list(&path)?.into_iter().map(|name| (FileType::RegularFile, name));
        let directories = self.disk.directories(&path).into_iter().map(|name| (FileType::Directory, name));
        // The number in a listing says nothing; names are looked up before they are used.
        Ok(files.chain(directories).map(|(kind, name)| (u64::MAX, kind, name)).collect())
    }

    fn sync_directory(&self, directory: INodeNo) -> io::Result<()> {
        let path = self.known().nodes.get(&directory.0).ok_or(io::ErrorKind::NotFound)?.0.clone();
        self.disk.sync_dir(&path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.kind_of(path)? {
            Some(Kind::Socket) => {}
            Some(Kind::Directory) => self.disk.remove_directory(path)?,
            Some(Kind::File(_)) | None => self.disk.remove(path)?,
        }
        self.known().numbers.remove(path);
        Ok(())
    }
}

/// The simulated disk's errors have a kind and no number.
fn errno(error: &io::Error) -> Errno {
    match error.kind() {
        io::ErrorKind::NotFound => Errno::ENOENT,
        io::ErrorKind::AlreadyExists => Errno::EEXIST,
        io::ErrorKind::IsADirectory => Errno::EISDIR,
        io::ErrorKind::DirectoryNotEmpty => Errno::ENOTEMPTY,
        io::ErrorKind::StorageFull => Errno::ENOSPC,
        io::ErrorKind::Unsupported => Errno::ENOSYS,
        _ => Errno::EIO,
    }
}

fn done(reply: ReplyEmpty, answer: io::Result<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

fn entry(reply: ReplyEntry, answer: io::Result<FileAttr>) {
    match answer {
        Ok(attributes) => reply.entry(&REMEMBERED, &attributes, Generation(0)),
        Err(error) => reply.error(errno(&error)),
    }
}

impl Filesystem for Adapter {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.path(parent, name).and_then(|path| self.look_up(path)));
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(node) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = size.map_or(Ok(()), |size| self.file(node)?.set_len(size));
        match resized.and_then(|()| self.attributes(node)) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn mknod(&self, _request: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, _device: u32, reply: ReplyEntry) {
        let made = self.path(parent, name).and_then(|path| {
            self.known().add(path.clone(), Kind::Socket);
            self.look_up(path)
        });
        entry(reply, made);
    }

    fn mkdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let made = self.path(parent, name).and_then(|path| {
            self.disk.create_dir(&path)?;
            self.look_up(path)
        });
        entry(reply, made);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.path(parent, name).and_then(|path| self.remove(&path)));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.path(parent, name).and_then(|path| self.remove(&path)));
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let paths = self.path(parent, name).and_then(|from| Ok((from, self.path(new_parent, new_name)?)));
        done(reply, paths.and_then(|(from, to)| self.move_name(&from, &to)));
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.create_file(parent, name) {
            Ok(attributes) => {
                reply.created(&REMEMBERED, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn open(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; size as usize];
        match self.file(node).and_then(|file| file.read_at(&mut bytes, offset)) {
            Ok(count) => reply.data(&bytes[..count]),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.file(node).and_then(|file| file.write_at(bytes, offset)) {
            Ok(()) => reply.written(bytes.len() as u32),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn flush(&self, _request: &Request, _node: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _request: &Request, node: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        done(reply, self.file(node).and_then(|file| file.sync()));
    }

    fn fsyncdir(&self, _request: &Request, node: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        done(reply, self.sync_directory(node));
    }

    fn readdir(&self, _request: &Request, node: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.list(node) {
            Ok(names) => {
                for (place, (number, kind, name)) in names.into_iter().enumerate().skip(offset as usize) {
                    if reply.add(INodeNo(number), place as u64 + 1, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn statfs(&self, _request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let blocks = 4 << 20;
        reply.statfs(blocks, blocks, blocks, blocks, blocks, BLOCK, 255, BLOCK);
    }
}
