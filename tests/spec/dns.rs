//! Names that change their mind about where they lead.
//!
//! Who looks names up is the host's part that a test can't reach from outside. So the gateway runs in
//! this process, as a library with a resolver of the test's own; all else is the real thing.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use keyward::{
    egress::{Dns, Lookup},
    gateway::{Gateway, Options, Paths},
    sandbox::Worker,
};
use keyward_server::{access, serve};

use crate::support::{
    canary,
    gateway::Setup,
    http::{Caller, chat},
    keyward, run,
    vendor::{Act, Vendor, openai},
};

/// What a name is said to be.
#[derive(Clone, Copy, Debug)]
enum Says {
    Addresses(&'static [&'static str]),
    NoSuchName,
    /// The resolver never answers.
    Nothing,
}

use Says::{Addresses, NoSuchName, Nothing};

const HERE: Says = Addresses(&["127.0.0.1"]);
/// Where clouds hand out credentials.
const METADATA: Says = Addresses(&["169.254.169.254"]);

/// Says what it is told to, one after the other and then from the beginning.
#[derive(Debug)]
struct Fickle {
    says: Mutex<Vec<Says>>,
    asked: AtomicUsize,
}

impl Fickle {
    fn new(says: &[Says]) -> Arc<Self> {
        Arc::new(Self { says: Mutex::new(says.to_vec()), asked: AtomicUsize::new(0) })
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = vec![says];
    }
}

/// As the gateway is given it.
#[derive(Debug)]
struct Resolver(Arc<Fickle>);

impl Dns for Resolver {
    fn lookup<'a>(&'a self, _: &'a str) -> Lookup<'a> {
        let turn = self.0.asked.fetch_add(1, Ordering::SeqCst);
        let says = {
            let says = self.0.says.lock().unwrap();
            says[turn % says.len()]
        };
        Box::pin(async move {
            match says {
                Addresses(all) => Ok(all.iter().map(|it| it.parse().unwrap()).collect()),
                NoSuchName => Err(io::Error::other("no such name")),
                Nothing => std::future::pending().await,
            }
        })
    }
}

/// A provider behind a name that nobody can rely on, and one behind an address.
struct Scene {
    fickle: Vendor,
    healthy: Vendor,
    dns: Arc<Fickle>,
    url: String,
    _setup: Setup,
}

impl Scene {
    async fn open(says: &[Says]) -> Self {
        let key = canary("fickle");
        // A connection for each request, so that each is one of the name's minds.
        let closing = {
            let key = key.clone();
            move |request: &_| {
                let mut acts = openai::plain_answer(request, &key);
                acts.push(Act::Close);
                acts
            }
        };
        let fickle = Vendor::scripted(&key, closing);
        let healthy = Vendor::plain_openai(&canary("healthy"));
        let setup = Setup::new("", &["openai"]);
        let provider = |name: &str, vendor: &Vendor, endpoint: &str| {
            let file = setup.config().with_file_name(format!("{name}.key"));
            std::fs::write(&file, &vendor.key).unwrap();
            format!(
                "  {name}:\n    adapter: openai\n    kind: local\n    endpoint: {endpoint}/v1\n    \
                 key: {{file: {}}}\n    models: [m]\n",
                file.display()
            )
        };
        let endpoint = format!("http://fickle.test:{}", fickle.address().port());
        let config = format!(
            "providers:\n{}{}routing: {{order: listed}}\nhealth: {{enabled: false}}\n",
            provider("fickle", &fickle, &endpoint),
            provider("healthy", &healthy, &healthy.url()),
        );
        std::fs::write(setup.config(), config).unwrap();
        let dns = Fickle::new(says);
        let options = Options {
            paths: Paths { config: setup.config(), plugins: setup.plugins(), data: setup.data() },
            worker: Worker::Child {
                program: keyward().to_owned(),
                arguments: vec!["compile-worker".into()],
            },
            slots: 16,
            dns: Arc::new(Resolver(Arc::clone(&dns))),
        };
        let gateway = Gateway::start(options).await.unwrap();
        let server = serve::Server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let options = serve::Options::new(access::configured(gateway.clone()));
        tokio::spawn(server.run(gateway, options, std::future::pending()));
        Self { fickle, healthy, dns, url, _setup: setup }
    }
}

#[test]
fn a_name_is_worth_what_it_leads_to_at_this_moment() {
    let steps = [
        (HERE, "fickle"),
        (METADATA, "healthy"),
        (Addresses(&["169.254.169.254", "127.0.0.1"]), "fickle"),
        // Not in clear text.
        (Addresses(&["93.184.216.34"]), "healthy"),
        (Addresses(&["0.0.0.0"]), "healthy"),
        (Addresses(&["fd00:ec2::254", "::ffff:169.254.169.254"]), "healthy"),
        (Addresses(&[]), "healthy"),
        (NoSuchName, "healthy"),
        (Nothing, "healthy"),
        (HERE, "fickle"),
    ];
    run(async {
        let scene = Scene::open(&[HERE]).await;
        let caller = Caller::new(&scene.url, None);
        let mut by_fickle = 0;
        for (says, by) in steps {
            scene.dns.says(says);
            for streamed in [false, true] {
                let (asked, began) = (scene.dns.asked.load(Ordering::SeqCst), Instant::now());
                let mut body = chat("m", "hello");
                body["stream"] = streamed.into();
                let answer = caller.post("/v1/chat/completions", &body).await;
                let took = began.elapsed();
                println!("{says:?} costs {took:?}");
                assert_eq!(answer.status, 200, "{says:?}: {}", answer.text());
                assert_eq!(answer.header("x-keyward-provider"), Some(by), "{says:?}");
                assert!(took < Duration::from_secs(5), "{says:?}: {took:?}");
                let lookups = scene.dns.asked.load(Ordering::SeqCst) - asked;
                assert_eq!(lookups, 1, "{says:?}: what was looked up is what is dialled");
                by_fickle += usize::from(by == "fickle");
            }
        }
        assert_eq!(scene.fickle.requests().len(), by_fickle, "and nothing is sent twice");
        assert_eq!(scene.healthy.requests().len(), 2 * steps.len() - by_fickle);
    });
}

/// For trying things by hand: a gateway whose DNS says something else each time it is asked about
/// `fickle.test`, and counts up what it is asked.
#[test]
#[ignore = "runs until interrupted"]
fn serve_fickle_names_by_hand() {
    let says = [HERE, METADATA, Addresses(&[]), NoSuchName, Nothing];
    run(async {
        let scene = Scene::open(&says).await;
        println!("what fickle.test is, again and again: {says:?}");
        println!("ask for the model `m` to see another provider take over, for `fickle/m` alone:");
        println!("curl -i {}/v1/chat/completions -d '{}'", scene.url, chat("m", "hello"));
        std::future::pending::<()>().await;
    });
}
