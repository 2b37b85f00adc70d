//! A storm on a master that is followed, while the replica is killed, the network is cut, and the one who
//! follows is killed: when it is over, both sides have the same, and nobody has laid a hand on it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use testkit::kills::{Victim, mailboxes};
use testkit::process::wait_until;
use testkit::served::Served;
use testkit::storm::{Storm, StormPlan};
use testkit::{Cyrus, CyrusBuilder, Rng, cyrus_or_skip};

use crate::program::{CYLINDER, PATIENCE};
use crate::rolling::{Rolling, differences};

/// How long each storm lasts, in seconds; `CYLINDER_ROLLING_SECONDS` asks for more.
const SECONDS: u64 = 12;

const USERS: [&str; 3] = ["glad", "bob", "iris"];

/// A network that can be cut, and leads to wherever the replica is at the time.
struct Network {
    address: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Network {
    fn to(replica: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (to, streams) = (Arc::new(Mutex::new(replica)), Arc::new(Mutex::new(Vec::new())));
        let network = Self { address, to: Arc::clone(&to), streams: Arc::clone(&streams) };
        // Ends with the test.
        thread::spawn(move || {
            for master in listener.incoming().flatten() {
                let to = *to.lock().expect("no panic");
                let Ok(replica) = TcpStream::connect(to) else { continue };
                let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
                let mut kept = streams.lock().expect("no panic");
                kept.extend([clone(&master), clone(&replica)]);
                for (from, to) in [(clone(&master), clone(&replica)), (replica, master)] {
                    thread::spawn(move || pass(from, to));
                }
            }
        });
        network
    }

    /// Ends all connections, wherever they are.
    fn cut(&self) {
        for stream in self.streams.lock().expect("no panic").drain(..) {
            // One that has ended cannot be cut.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn master(builder: CyrusBuilder) -> Cyrus {
    let master = builder.option("sync_log", "yes").start().expect("a master");
    for user in USERS {
        master.create_user(user).expect("a user");
    }
    master
}

/// Lets it storm, and breaks one thing after the other; then waits until both agree.
fn survive(master: &Cyrus, victim: &mut dyn Victim, seed: u64) {
    let asked = std::env::var("CYLINDER_ROLLING_SECONDS").ok();
    let seconds = asked.map_or(SECONDS, |asked| asked.parse().expect("a number"));
    let network = Network::to(victim.address());
    let mut rolling = Rolling::start(master.imapd_conf(), network.address);
    let storm = Storm::start(&StormPlan::new(master.imap_address(), &USERS, seed));
    let mut rng = Rng::new(seed);
    let mut faults = [0; 3];
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        // Instants are what is wanted: nothing waits for anything here.
        thread::sleep(Duration::from_millis(200 + rng.below(800)));
        let which = rng.index(faults.len());
        faults[which] += 1;
        match which {
            0 => network.cut(),
            1 => {
                victim.kill().expect("it can be killed");
                thread::sleep(Duration::from_millis(rng.below(600)));
                victim.resume().expect("it comes up again");
                *network.to.lock().expect("no panic") = victim.address();
            }
            _ => {
                rolling.kill();
                thread::sleep(Duration::from_millis(rng.below(300)));
                rolling.resume();
            }
        }
    }
    let report = storm.stop().expect("the clients are well");
    println!("cut, killed there, killed here: {faults:?}; {:?}", report.done);
    let agree = || {
        USERS.iter().all(|user| {
            let told = [master.sync_address(), victim.address()].map(|at| mailboxes(at, user).ok());
            told[0].is_some() && told[0] == told[1]
        })
    };
    let agreed = wait_until(PATIENCE, || rolling.is_settled() && agree());
    let told = USERS
        .map(|user| [master.sync_address(), victim.address()].map(|at| mailboxes(at, user).ok()));
    assert!(agreed, "seed {seed}: {:#}\n{}\n{told:#?}", rolling.status(), rolling.said());
    assert_eq!(rolling.end(), Some(0));
    assert!(!rolling.said().contains("panicked"), "{}", rolling.said());
}

#[test]
fn a_storm_with_faults_ends_with_two_equal_sides_of_cyrus() {
    let Some(builder) = cyrus_or_skip("a_storm_with_faults") else { return };
    let builder = builder.conversations(true);
    let mut replica = builder.clone().start().expect("a replica");
    let master = master(builder);
    survive(&master, &mut replica, 21);
    for user in USERS {
        let differences = differences(&master, &replica, user);
        assert!(differences.is_empty(), "{user}: {differences:#?}");
    }
}

#[test]
fn a_storm_with_faults_ends_with_two_equal_sides_of_cylinder_serve() {
    let Some(builder) = cyrus_or_skip("a_storm_with_faults_serve") else { return };
    let mut replica = Served::start(Path::new(CYLINDER)).expect("a replica");
    let master = master(builder);
    survive(&master, &mut replica, 22);
    assert!(!replica.log().contains("damaged"), "{}", replica.log());
}
