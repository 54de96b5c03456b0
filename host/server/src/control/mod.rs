//! What the command line asks of a running host.
//!
//! An HTTP API over a unix socket in the data folder, because such a socket can be reached by its
//! owner alone: its file has mode 0600, and whoever connects must be the owner or root. So it needs
//! no token, and no page in a browser can reach it. Limits are those of [`crate::serve`].

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use axum::Router;
use tokio::net::{UnixListener, UnixStream};

use keyward::gateway::Gateway;

use crate::{
    access::Peer,
    body::MAX_BODY,
    operator,
    serve::{Listener, serve},
    surface,
};

mod routes;

/// The socket's name in the data folder.
const SOCKET: &str = "control.sock";

/// Where a host on this data folder answers.
pub fn socket_path(data: &Path) -> PathBuf {
    data.join(SOCKET)
}

/// Everything the owner of the data folder may ask: this API, and the callers' dialects without a
/// token.
pub fn router(gateway: Gateway) -> Router {
    routes::router(gateway.clone())
        .merge(operator::routes(gateway.clone(), MAX_BODY))
        .merge(surface::open_router(gateway))
}

/// How long a running request may take after a shutdown. Requests here are short.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another host is running: it answers on {}", .0.display())]
    InUse(PathBuf),
    #[error("{} exists and isn't a socket; move it away", .0.display())]
    NotASocket(PathBuf),
    #[error("the control socket {} can't be made", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The socket of this process. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
    owner: u32,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another host's socket of the same name stays.
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|meta| id(&meta) == self.id);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the control socket stays behind");
        }
    }
}

fn id(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

impl ControlSocket {
    /// Makes the socket, in place of one that a host which has ended left behind.
    ///
    /// # Errors
    /// If a host answers on it, something else has its name, or it can't be made.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            Ok(_) => match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Whoever has a full queue, or may not be asked, is alive.
                Ok(_) | Err(_) => return Err(SocketError::InUse(path.to_owned())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // Made under a name nobody waits for, so that it has its mode before it has its name.
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}", std::process::id()));
        let new = PathBuf::from(new);
        let made = Self::make(&new, path);
        if made.is_err() {
            let _ = fs::remove_file(&new);
        }
        made.map_err(failed)
    }

    fn make(new: &Path, path: &Path) -> io::Result<Self> {
        match fs::remove_file(new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(new)?;
        fs::set_permissions(new, fs::Permissions::from_mode(0o600))?;
        let meta = fs::symlink_metadata(new)?;
        fs::rename(new, path)?;
        let file = SocketFile { path: path.to_owned(), id: id(&meta) };
        Ok(Self { listener, file, owner: meta.uid() })
    }

    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Serves until `shutdown` is done, then removes the socket.
    pub async fn run(self, router: Router, shutdown: impl Future<Output = ()>) {
        let Self { listener, file, owner } = self;
        serve(Owned { listener, owner }, router, GRACE, shutdown).await;
        drop(file);
    }
}

/// Accepts the owner and root only, whatever the file's mode has become.
struct Owned {
    listener: UnixListener,
    owner: u32,
}

impl Listener for Owned {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<Peer>)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            if uid == self.owner || uid == 0 {
                return Ok((stream, None));
            }
            tracing::warn!(uid, "another user tried the control socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn router() -> Router {
        Router::new()
            .route("/v1/status", axum::routing::get(async || std::process::id().to_string()))
    }

    async fn ask(path: &Path) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        let request = b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_socket_serves_its_owner_and_goes_with_its_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        let socket = ControlSocket::bind(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(socket.run(router(), async {
            let _ = stopped.await;
        }));
        let answer = ask(&path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with(&std::process::id().to_string()), "{answer}");
        stop.send(()).unwrap();
        running.await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = ControlSocket::bind(&path).await.unwrap();
        let second = ControlSocket::bind(&path).await;
        assert!(matches!(second, Err(SocketError::InUse(_))), "{second:?}");
        assert!(path.exists());
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_of_that_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        fs::write(&path, "mine").unwrap();
        let bound = ControlSocket::bind(&path).await;
        assert!(matches!(bound, Err(SocketError::NotASocket(_))), "{bound:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let long = folder.path().join("x".repeat(200));
        assert!(matches!(ControlSocket::bind(&long).await, Err(SocketError::Io { .. })));
    }

    #[tokio::test]
    async fn a_socket_that_took_the_name_since_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        let first = ControlSocket::bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let second = ControlSocket::bind(&path).await.unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
