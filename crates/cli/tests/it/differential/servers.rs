//! The real servers, each with a config of its own in a folder of its own, and a recorder in front of them.
//!
//! Every server answers 403 to what it understands as `/admin` or below, and shows in other answers which path it was asked
//! for. None runs as a service of the system.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portcullis_testkit::gate::Folder;

use crate::misbehaving;

/// One server as a process.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    child: Child,
    log: PathBuf,
    _folder: Folder,
}

impl Server {
    fn start(name: &'static str, folder: Folder, address: SocketAddr, mut command: Command) -> Server {
        let log = folder.path().join("output");
        let file = std::fs::File::create(&log).expect("a log can be written");
        let errors = file.try_clone().expect("a file can be shared");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} (run `cargo xtask setup`): {error}"));
        Server { name, address, child, log, _folder: folder }
    }

    /// Waits until it listens. Apart from the start, so that all start at once.
    pub(super) fn wait(&mut self) {
        let started = Instant::now();
        while !answers(self.address) {
            let has_ended = self.child.try_wait().expect("a child can be waited for").is_some();
            let said = || std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(!has_ended && started.elapsed() < Duration::from_secs(60), "{}: {}", self.name, said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it serves: listening alone says little about a server that still loads what it serves.
fn answers(address: SocketAddr) -> bool {
    let Ok(mut socket) = TcpStream::connect(address) else { return false };
    let asked = socket.write_all(b"GET /c999999/first HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    asked.and_then(|()| socket.read_to_end(&mut answer)).is_ok() && answer.starts_with(b"HTTP/1.1 ")
}

fn write(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder can be made");
    std::fs::write(&path, text).expect("a file can be written");
    path
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn nginx() -> Server {
    let (folder, address) = (Folder::new(), misbehaving::nobody());
    let here = shown(folder.path());
    let config = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\nevents {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {here}/body; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;\n\
         uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
         server {{ listen {address}; location /admin/ {{ return 403 admin; }} location = /admin {{ return 403 admin; }}\n\
         location / {{ return 200 $request_uri; }} }} }}\n"
    );
    let path = write(&folder, "nginx.conf", &config);
    let mut command = Command::new("nginx");
    command.arg("-c").arg(path).arg("-p").arg(folder.path());
    Server::start("nginx", folder, address, command)
}

pub(super) fn apache() -> Server {
    let (folder, address) = (Folder::new(), misbehaving::nobody());
    let here = shown(folder.path());
    let module = |name: &str| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
    let config = format!(
        "{}{}{}ServerRoot {here}\nServerName a\nListen {address}\nPidFile {here}/pid\nErrorLog {here}/error.log\n\
         Mutex file:{here} default\nUser www-data\nGroup www-data\nDocumentRoot {here}/files\n\
         <Directory {here}/files>\nRequire all granted\n</Directory>\n<Location \"/admin\">\nRequire all denied\n</Location>\n\
         Header always set X-Understood \"expr=%{{REQUEST_URI}}\"\n",
        module("mpm_event"),
        module("authz_core"),
        module("headers"),
    );
    write(&folder, "files/index.html", "files");
    let path = write(&folder, "apache.conf", &config);
    let mut command = Command::new("apache2");
    // One process, so that it ends with the test.
    command.arg("-X").arg("-f").arg(path);
    Server::start("apache", folder, address, command)
}

pub(super) fn tomcat() -> Server {
    let (folder, address) = (Folder::new(), misbehaving::nobody());
    let server = format!(
        "<Server port=\"-1\"><Service name=\"Catalina\"><Connector port=\"{}\" address=\"{}\" maxThreads=\"20\"/>\n\
         <Engine name=\"Catalina\" defaultHost=\"localhost\"><Host name=\"localhost\" appBase=\"webapps\"/></Engine>\n\
         </Service></Server>\n",
        address.port(),
        address.ip()
    );
    write(&folder, "conf/server.xml", &server);
    let app = "<web-app xmlns=\"https://jakarta.ee/xml/ns/jakartaee\" version=\"6.0\"><servlet>\
         <servlet-name>default</servlet-name><servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class>\
         </servlet><servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>\
         <security-constraint><web-resource-collection><web-resource-name>admin</web-resource-name>\
         <url-pattern>/admin/*</url-pattern></web-resource-collection><auth-constraint/></security-constraint></web-app>";
    write(&folder, "webapps/ROOT/WEB-INF/web.xml", app);
    write(&folder, "temp/.keep", "");
    let home = "/usr/share/tomcat10";
    let mut command = Command::new("java");
    command
        .args(["-Xmx96m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
        .arg(format!("{home}/bin/bootstrap.jar:{home}/bin/tomcat-juli.jar"))
        .arg(format!("-Dcatalina.home={home}"))
        .arg(format!("-Dcatalina.base={}", shown(folder.path())))
        .arg(format!("-Djava.io.tmpdir={}/temp", shown(folder.path())))
        .args(["org.apache.catalina.startup.Bootstrap", "start"]);
    Server::start("tomcat", folder, address, command)
}

pub(super) fn node() -> Server {
    let (folder, address) = (Folder::new(), misbehaving::nobody());
    let script = format!(
        "const {{ createServer }} = require('http');\n\
         createServer((request, response) => {{\n\
           let path = request.url;\n\
           try {{ path = decodeURIComponent(new URL(request.url, 'http://a').pathname); }} catch {{}}\n\
           const isAdmin = path === '/admin' || path.startsWith('/admin/');\n\
           request.resume();\n\
           request.on('end', () => {{ response.statusCode = isAdmin ? 403 : 200; response.end(request.url); }});\n\
         }}).listen({}, '{}');\n",
        address.port(),
        address.ip()
    );
    let path = write(&folder, "server.js", &script);
    let mut command = Command::new("node");
    command.arg(path);
    Server::start("node", folder, address, command)
}

pub(super) fn python() -> Server {
    let (folder, address) = (Folder::new(), misbehaving::nobody());
    let app = "def app(environ, start_response):\n    \
         path = environ['PATH_INFO']\n    \
         while environ['wsgi.input'].read(65536):\n        pass\n    \
         admin = path == '/admin' or path.startswith('/admin/')\n    \
         start_response('403 Forbidden' if admin else '200 OK', [('Content-Type', 'text/plain')])\n    \
         return [environ.get('RAW_URI', '').encode('latin-1', 'replace')]\n";
    write(&folder, "echo.py", app);
    let gunicorn = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/python/bin/gunicorn");
    let mut command = Command::new(gunicorn);
    command.args(["-b", &address.to_string(), "--threads", "16", "--keep-alive", "5", "echo:app"]);
    command.current_dir(folder.path());
    Server::start("python", folder, address, command)
}

/// What a recorder has seen: for each connection, all bytes towards the server.
pub(super) type Record = Arc<Mutex<Vec<Vec<u8>>>>;

/// Stands between the gateway and a server, passes everything on, and keeps what the gateway says.
pub(super) fn recorder(server: SocketAddr) -> (SocketAddr, Record) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let record = Record::default();
    let kept = Arc::clone(&record);
    std::thread::spawn(move || {
        for gateway in listener.incoming().map_while(Result::ok) {
            let Ok(upstream) = TcpStream::connect(server) else { continue };
            let index = {
                let mut kept = kept.lock().expect("nobody panics with the lock");
                kept.push(Vec::new());
                kept.len() - 1
            };
            let (from_server, to_gateway) = (upstream.try_clone(), gateway.try_clone());
            let (Ok(from_server), Ok(to_gateway)) = (from_server, to_gateway) else { continue };
            std::thread::spawn(move || pass(from_server, to_gateway, |_| {}));
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || {
                pass(gateway, upstream, |bytes| {
                    kept.lock().expect("nobody panics with the lock")[index].extend_from_slice(bytes);
                });
            });
        }
    });
    (address, record)
}

fn pass(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8])) {
    let mut scratch = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut scratch) {
        keep(&scratch[..read]);
        if read == 0 || to.write_all(&scratch[..read]).is_err() {
            break;
        }
    }
    // The other direction ends with this one, as far as it has not ended yet.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
