use std::convert::Infallible;

use axum::routing::{get, post};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    task::JoinHandle,
};

use super::*;
use crate::{body::Intake, openai::error};

struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(router: Router, grace: Duration) -> Running {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = server.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(server.listener, router, grace, async {
        let _ = stopped.await;
    }));
    Running { addr, stop, task }
}

/// A body of `n` pieces, one each 50 ms.
fn slow(n: usize) -> Body {
    let pieces = futures_util::stream::unfold(0, move |at| async move {
        if at == n {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"piece "))), at + 1))
    });
    Body::new(StreamBody::new(pieces))
}

fn router() -> Router {
    let intake = Intake::new(1000);
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/slow", get(|| async { slow(6) }))
        .route("/endless", get(|| async { slow(usize::MAX) }))
        .route(
            "/peer",
            get(|request: Request| async move {
                request.extensions().get::<Peer>().map(|Peer(peer)| peer.ip().to_string()).unwrap()
            }),
        )
        .route(
            "/take",
            post(move |body: Body| async move {
                match intake.receive(body).await {
                    Ok(body) => {
                        axum::response::IntoResponse::into_response(body.bytes.len().to_string())
                    }
                    Err(failure) => error::response(&failure),
                }
            }),
        )
}

async fn open(running: &Running, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn read(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // What came before a reset counts.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const CLOSE: &str = "host: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn requests_know_their_peer_and_share_a_connection() {
    let running = start(router(), Duration::from_secs(1)).await;
    let twice =
        format!("GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\nGET /peer HTTP/1.1\r\n{CLOSE}");
    let answer = read(open(&running, &twice).await).await;
    assert!(answer.contains("hello") && answer.ends_with("127.0.0.1"), "{answer}");
    running.stop.send(()).unwrap();
    running.task.await.unwrap();
    assert!(TcpStream::connect(running.addr).await.is_err());
}

#[tokio::test]
async fn what_isnt_http_is_refused() {
    let running = start(router(), Duration::from_secs(1)).await;
    let headers: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (request, status) in [
        ("\u{16}\u{3}\u{1} hello\r\n\r\n".to_owned(), "400"),
        ("GET /hello HTTP/1.1\r\nhost : x\r\n\r\n".to_owned(), "400"),
        (format!("GET /hello HTTP/1.1\r\n{headers}\r\n"), "431"),
        (format!("GET /hello HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(MAX_HEAD)), "431"),
        (
            "POST /take HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(),
            "400",
        ),
    ] {
        let answer = read(open(&running, &request).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.80}\n{answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_gets_an_answer_its_sender_can_read() {
    let running = start(router(), Duration::from_secs(1)).await;
    let size = 4 * 1024 * 1024;
    let head = format!("POST /take HTTP/1.1\r\ncontent-length: {size}\r\n{CLOSE}");
    let request = format!("{head}{}", "a".repeat(size));
    let answer = read(open(&running, &request).await).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("request_too_large"), "{answer}");
    let chunked = format!(
        "POST /take HTTP/1.1\r\ntransfer-encoding: chunked\r\n{CLOSE}{:x}\r\n{}\r\n0\r\n\r\n",
        1001,
        "a".repeat(1001)
    );
    let answer = read(open(&running, &chunked).await).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let fits = format!("POST /take HTTP/1.1\r\ncontent-length: 3\r\n{CLOSE}abc");
    assert!(read(open(&running, &fits).await).await.ends_with("\r\n\r\n3"));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_given_up() {
    let running = start(router(), Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    for request in ["", "GET /hello HTTP/1.1\r\nhost: loc"] {
        let stream = open(&running, request).await;
        let answer = read(stream).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    assert!(began.elapsed() >= 2 * HEAD_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_longer_than_its_client_keeps_it_and_a_later_head_is_timed()
{
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let running = start(router(), Duration::from_secs(1)).await;
    let request = "GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut stream = open(&running, request).await;
    let mut answer = [0; 4096];
    for _ in 0..2 {
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].ends_with(b"hello"));
        tokio::time::sleep(Duration::from_secs(90)).await;
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].ends_with(b"hello"));
    let began = tokio::time::Instant::now();
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: loc").await.unwrap();
    while stream.read(&mut answer).await.is_ok_and(|read| read > 0) {}
    let took = began.elapsed();
    assert!((HEAD_TIMEOUT..2 * HEAD_TIMEOUT).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_body_that_was_asked_for_has_its_own_time() {
    use tokio::io::AsyncWriteExt as _;
    let running = start(router(), Duration::from_secs(1)).await;
    let head = "POST /take HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 1\r\n";
    let mut stream = open(&running, &format!("{head}{CLOSE}")).await;
    // Really: a paused clock knows nothing of what is on its way over a socket.
    tokio::time::sleep(HEAD_TIMEOUT + Duration::from_secs(1)).await;
    stream.write_all(b"a").await.unwrap();
    let answer = read(stream).await;
    assert!(answer.starts_with("HTTP/1.1 100") && answer.ends_with("\r\n\r\n1"), "{answer}");
}

#[tokio::test]
async fn a_running_answer_finishes_after_a_shutdown() {
    let running = start(router(), Duration::from_secs(5)).await;
    let idle = open(&running, "GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let slow = open(&running, &format!("GET /slow HTTP/1.1\r\n{CLOSE}")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop.send(()).unwrap();
    assert_eq!(read(slow).await.matches("piece").count(), 6);
    assert!(read(idle).await.ends_with("hello"));
    running.task.await.unwrap();
}

#[tokio::test]
async fn an_endless_answer_is_cut_when_the_time_is_up() {
    let running = start(router(), Duration::from_millis(200)).await;
    let endless = open(&running, &format!("GET /endless HTTP/1.1\r\n{CLOSE}")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop.send(()).unwrap();
    timeout(Duration::from_secs(5), running.task).await.unwrap().unwrap();
    assert!(!read(endless).await.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn an_answer_is_dropped_when_its_caller_leaves() {
    struct Tell(Option<oneshot::Sender<()>>);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.take().map(|tell| tell.send(()));
        }
    }

    let (tell, told) = oneshot::channel();
    let tell = Arc::new(std::sync::Mutex::new(Some(Tell(Some(tell)))));
    let router = Router::new().route(
        "/wait",
        get(move || {
            let held = tell.lock().unwrap().take();
            async move {
                std::future::pending::<()>().await;
                drop(held);
            }
        }),
    );
    let running = start(router, Duration::from_secs(1)).await;
    let caller = open(&running, &format!("GET /wait HTTP/1.1\r\n{CLOSE}")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(caller);
    timeout(Duration::from_secs(1), told).await.unwrap().unwrap();
}
