"""Every environment variable that Shiplap reads, as data: docs/settings.md is made of it, by scripts/settings-document.

A test holds it against what ``core.settings`` looks up, and against every name that the code has.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

EVERYTHING: Final = "everything"
SERVICE: Final = "serve, web, worker, migrate, backup, restore"


class Variable(NamedTuple):
    """A variable.

    name: as it is in the environment.
    meaning: what it does, as a phrase.
    values: what may be in it: unit, bounds, form.
    default: what counts when it is not set, or empty; "" when nothing does.
    readers: the commands that look at it.
    in_file: whether ``NAME_FILE`` may name a file with the value, in its place.
    hides: what of the value nobody is shown: all of it; or, of a URL, whatever may hold a password.
    """

    name: str
    meaning: str
    values: str
    default: str
    readers: str
    in_file: bool = False
    hides: Literal["", "all", "password"] = ""


class Group(NamedTuple):
    """Variables under one heading. about: a sentence or two above them, in Markdown."""

    title: str
    about: str
    variables: tuple[Variable, ...]


_PLACES: Final = Group(
    "Places",
    "Where Shiplap and its user keep things. `~` at the beginning of a path is the user's home directory.",
    (
        Variable(
            "SHIPLAP_ROOT",
            "where images, the cache, and what the service knows are kept; `--root` comes first",
            "a whole path of at most 480 bytes, on ext4, xfs, btrfs or tmpfs",
            "`/var/lib/shiplap` for root, `~/.local/share/shiplap` for others",
            EVERYTHING,
        ),
        Variable("HOME", "the user's home directory", "a whole path", "as the password database has it", EVERYTHING),
        Variable(
            "XDG_DATA_HOME",
            "the root is `shiplap` in it, for who is not root",
            "a whole path, else it is ignored",
            "`~/.local/share`",
            EVERYTHING,
        ),
        Variable(
            "XDG_CONFIG_HOME",
            "`shiplap/contexts.json` in it has the services that the user works with",
            "a whole path, else it is ignored",
            "`~/.config`",
            "commands that ask a service",
        ),
        Variable(
            "XDG_CACHE_HOME",
            "`shiplap/contexts` in it remembers digests of files that were sent",
            "a whole path, else it is ignored",
            "`~/.cache`",
            "build on a service",
        ),
        Variable(
            "XDG_RUNTIME_DIR",
            "`shiplap` in it has the sockets of containers, for who is not root",
            "a whole path, else it is ignored",
            "`run` in the root",
            "containers",
        ),
    ),
)

_BUILDS: Final = Group(
    "Builds on this machine, and workers",
    "",
    (
        Variable(
            "SHIPLAP_CACHE_MAX",
            "what the [build cache](cache.md) may take; it removes what was not used for longest",
            "a size (`20g`), a part of the disk (`40%`), or `none`",
            "`60%`",
            "build, worker",
        ),
        Variable(
            "SHIPLAP_DENIED_NETWORKS",
            "what steps and a run's own fetches may not reach; they never reach the host or link-local addresses",
            "networks or addresses, commas between: `10.0.0.0/8,fd00::/8`",
            "",
            "build, run, worker",
        ),
        Variable(
            "SHIPLAP_UPLINK",
            "how containers reach the outside: by the kernel, which is fast, or by pasta; see [networks](networks.md)",
            "`kernel`, `pasta`, or `auto`: the kernel where it is a way out, else pasta",
            "`auto`",
            "build, run, worker",
        ),
        Variable(
            "SHIPLAP_FETCH_TIME",
            "how long fetching one git repository may take",
            "seconds, above 0",
            "`600`",
            "build, worker",
        ),
        Variable(
            "SHIPLAP_FETCH_FILE_MAX",
            "the largest file that git may write then, such as a pack with all history",
            "a size, above 0",
            "`4g`",
            "build, worker",
        ),
        Variable(
            "SOURCE_DATE_EPOCH",
            "the time of everything that a build or an import makes",
            "seconds since 1970-01-01 UTC",
            "",
            "build, image import",
        ),
        Variable(
            "SSH_AUTH_SOCK",
            "the agent behind `--ssh default`, and behind git over ssh",
            "a socket's path",
            "",
            "build",
        ),
        Variable(
            "PATH",
            "where `git`, `ssh`, `mkfs.erofs`, `newuidmap` and `redis-server` are looked for; "
            "`pasta` and `nft`: in the usual places",
            "directories, colons between",
            "",
            EVERYTHING,
        ),
    ),
)

_REGISTRIES: Final = Group(
    "Registries",
    "Read by whatever pulls, pushes or logs in: commands on this machine, and workers. `ROOT/registries.json` and "
    "`certs.d` are in [the registry](registry.md).",
    (
        Variable(
            "DOCKER_CONFIG",
            "the directory of `config.json`, which has log-ins, and of `certs.d`",
            "a path",
            "`~/.docker`",
            "pull, push, build, login, logout, worker",
        ),
        Variable(
            "SHIPLAP_INSECURE_REGISTRIES",
            "registries that are spoken to without TLS, or whose certificates nobody vouches for",
            "HOST[:PORT] or networks, commas between",
            "",
            "pull, push, build, worker",
        ),
        Variable(
            "SHIPLAP_KEEP_PULLED_GZIP",
            "whether a pulled layer stays in the compressed form that it came in, too, where its registry has that",
            "`on` or `off`",
            "`on`",
            "pull, build, worker",
        ),
        Variable(
            "http_proxy",
            "the proxy for `http://` addresses; in lower case only",
            "a URL",
            "",
            "pull, push, build, worker",
            hides="password",
        ),
        Variable(
            "https_proxy",
            "the proxy for `https://` addresses",
            "a URL",
            "",
            "pull, push, build, worker",
            hides="password",
        ),
        Variable(
            "HTTPS_PROXY",
            "counts where `https_proxy` is not set",
            "a URL",
            "",
            "pull, push, build, worker",
            hides="password",
        ),
        Variable(
            "no_proxy",
            "what is reached without a proxy",
            "hosts, `.domain` or `*`, commas between",
            "",
            "pull, push, build, worker",
        ),
        Variable("NO_PROXY", "counts where `no_proxy` is not set", "as `no_proxy`", "", "pull, push, build, worker"),
    ),
)

_CLIENT: Final = Group(
    "The command, and a service that it asks",
    "",
    (
        Variable(
            "SHIPLAP_HOST",
            "the service that is to do it; `--host` comes first, and `local` means this machine",
            "a URL, or the name of a context",
            "the context in use, else this machine",
            "commands that ask a service",
        ),
        Variable(
            "SHIPLAP_TOKEN",
            "the token for that service, before every stored one",
            "`shp_…`",
            "",
            "commands that ask a service",
            hides="all",
        ),
        Variable(
            "SHIPLAP_RESIDENT",
            "`on`: a process that has imported the command line stays for five minutes and forks for root's commands",
            "`on` or `off`",
            "`off`",
            "build, pull, push, and commands on containers, images, networks, volumes",
        ),
        Variable("NO_COLOR", "no colours", "anything", "", EVERYTHING),
        Variable(
            "TERM",
            "`dumb`: plain progress; a container on a terminal gets it in a debugging shell",
            "a terminal's kind",
            "",
            "build, run, pull, push",
        ),
        Variable("SHIPLAP_DEBUG", "errors are printed with their traceback", "`1`", "", EVERYTHING),
    ),
)

_SERVICE: Final = Group(
    "The service",
    "The same on all of its hosts, but for `SHIPLAP_ROOT` and what says *worker* alone. "
    "[Deploying](deploy.md) has whole examples.",
    (
        Variable(
            "SHIPLAP_DATABASE_URL",
            "the database: users, projects, runs, logs ([how to make one](deploy.md#postgresql-and-redis))",
            "`postgresql://USER:PASSWORD@HOST[:PORT]/NAME` or `sqlite:////PATH`",
            "`sqlite:///ROOT/serve/service.db`",
            SERVICE,
            in_file=True,
            hides="password",
        ),
        Variable(
            "SHIPLAP_REDIS_URL",
            "the queue, and the live ends of logs ([how to set it up](deploy.md#postgresql-and-redis)); "
            "`serve` starts one of its own when it is not set",
            "`redis://[:PASSWORD@]HOST:6379/0`, `rediss://…` or `unix:///PATH`",
            "`unix://ROOT/serve/redis/redis.sock`",
            SERVICE,
            in_file=True,
            hides="password",
        ),
        Variable(
            "SHIPLAP_SECRET_KEY_FILE",
            "the key that secrets are encrypted with, which is the same on all hosts",
            "a path of a file of 32 bytes",
            "`ROOT/serve/secret.key`",
            SERVICE,
        ),
        Variable(
            "SHIPLAP_PUBLIC_URL",
            "where people reach the pages: in links, statuses and invitations; also a name of the registry",
            "a URL",
            "as requests have it",
            "serve, web, worker",
        ),
        Variable(
            "SHIPLAP_REGISTRY",
            "what runs push to; without it a worker keeps images to itself",
            "HOST[:PORT]",
            "with `serve` its own address",
            "serve, web, worker",
        ),
        Variable(
            "SHIPLAP_TRUSTED_PROXIES",
            "whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed",
            "addresses or networks, commas between",
            "`127.0.0.0/8,::1`",
            "serve, web",
        ),
        Variable(
            "SHIPLAP_PROJECT_OUTPUTS_MAX",
            "what a host keeps of a project's outputs for people; a job that exceeds it fails",
            "a size as in `20g`; 0 is no bound",
            "0",
            "serve, web, worker",
        ),
        Variable(
            "SHIPLAP_OUTPUTS_URL",
            "the host on which scripts in previews of outputs run; without it, they run nowhere",
            "`http(s)://HOST[:PORT]`, whose host is not that of `SHIPLAP_PUBLIC_URL`",
            "",
            "serve, web",
        ),
        Variable(
            "SHIPLAP_BACKUP_DIR",
            "where [Back up now](service.md#backup) puts its files, which hold the secrets' key; else there is none",
            "a whole path of a directory that the web process may write",
            "",
            "serve, web",
        ),
        Variable(
            "SHIPLAP_BACKUP_KEEP",
            "how many of these files stay, the newest; 0 keeps all",
            "a number",
            "`7`",
            "serve, web",
        ),
        Variable(
            "SHIPLAP_ENGINE",
            "the engine whose [containers](dashboard.md#containers) the pages show, by its socket",
            "`unix:///PATH`, as `shiplap engine` prints it",
            "with `serve --engine` that one's; else the pages show none",
            "serve, web",
        ),
        Variable(
            "SHIPLAP_METRICS_TOKEN",
            "what `/metrics` asks for; without it, nothing",
            "a text, sent as `Authorization: Bearer …`",
            "",
            "serve, web",
            in_file=True,
            hides="all",
        ),
        Variable(
            "SHIPLAP_GIT_ALLOWED_HOSTS",
            "hosts with private addresses that runs may clone, ADD and pull from and push to, and that may be told "
            "how runs went",
            "HOST or HOST:PORT, commas between",
            "",
            "serve, web, worker",
        ),
        Variable(
            "SHIPLAP_GIT_CA_FILE",
            "certificates to trust, instead of the system's, where repositories are fetched and forges told of runs",
            "a path of a file that everybody may read",
            "the system's certificates",
            "serve, web, worker",
        ),
        Variable(
            "SHIPLAP_GIT_PUSH_MAX",
            "what one push to a repository of `ROOT/git` may have over HTTP; 0 is no limit",
            "a size",
            "`2g`",
            "serve, web",
        ),
        Variable(
            "SHIPLAP_GIT_TIME",
            "how long one fetch or push may take there, without what `-o follow` shows",
            "seconds",
            "`3600`",
            "serve, web",
        ),
        Variable(
            "SHIPLAP_GIT_AT_ONCE",
            "fetches and pushes at the same time; one token has a fourth of them",
            "a number",
            "`16`",
            "serve, web",
        ),
        Variable(
            "SHIPLAP_WORKER_LABELS",
            "what runs may ask of this worker; `--labels` comes first",
            "words, commas between",
            "",
            "worker",
        ),
        Variable(
            "SHIPLAP_WEB_URL",
            "from where a worker with a root of its own fetches bare repositories and build contexts",
            "a URL",
            "they are below its own root",
            "worker",
        ),
        Variable(
            "SHIPLAP_WEB_TOKEN",
            "a token for the contexts, with the scope `build`",
            "`shp_…`",
            "",
            "web, worker",
            in_file=True,
            hides="all",
        ),
        Variable(
            "SHIPLAP_SHARED_CACHE",
            "whether this worker shares its build cache through `SHIPLAP_REGISTRY`",
            "`on` or `off`",
            "`on`",
            "worker",
        ),
        Variable(
            "SHIPLAP_SHARED_CACHE_MOUNTS",
            "cache mounts that the runs of all projects have in common, but for forks ([trust](trust.md))",
            "ids of `RUN --mount=type=cache`, commas between",
            "",
            "worker",
        ),
        Variable(
            "NOTIFY_SOCKET", "where systemd hears that the service is ready", "a socket", "", "serve, web, worker"
        ),
    ),
)

_STEPS: Final = Group(
    "What a step of the service's runs may use",
    "Sizes are in bytes or with a unit (`512m`, `2g`; powers of 1024). `0` is no limit.",
    (
        Variable(
            "SHIPLAP_STEP_MEMORY",
            "its memory",
            "a size",
            "three quarters of what [there is](deploy.md#memory)",
            "serve, worker",
        ),
        Variable("SHIPLAP_STEP_CPUS", "its processors", "a number: `1.5`", "`0`", "serve, worker"),
        Variable("SHIPLAP_STEP_PIDS", "its processes and threads", "a number", "`4096`", "serve, worker"),
        Variable(
            "SHIPLAP_STEP_DISK",
            "what it may write to disk, its layer and its mounts together",
            "a size",
            "`20g`",
            "serve, worker",
        ),
        Variable("SHIPLAP_STEP_OUTPUT", "what it may print", "a size", "`4g`", "serve, worker"),
        Variable(
            "SHIPLAP_STEP_OUTPUT_RATE",
            "what it may print in a second; who prints faster waits",
            "a size",
            "`0`",
            "serve, worker",
        ),
    ),
)

_OIDC: Final = Group(
    "Signing in with OpenID Connect",
    "[Users](users.md) says how a provider is set up. Without `SHIPLAP_OIDC_ISSUER` the others are not looked at.",
    (
        Variable("SHIPLAP_OIDC_ISSUER", "the provider", "a URL with `https://`", "", "serve, web"),
        Variable("SHIPLAP_OIDC_CLIENT_ID", "what the provider calls this service", "a text", "", "serve, web"),
        Variable(
            "SHIPLAP_OIDC_CLIENT_SECRET",
            "the password that belongs to it",
            "a text",
            "",
            "serve, web",
            in_file=True,
            hides="all",
        ),
        Variable(
            "SHIPLAP_OIDC_SCOPES",
            "what is asked for, beside `openid`",
            "words, spaces or commas between",
            "`openid profile email`",
            "serve, web",
        ),
        Variable(
            "SHIPLAP_OIDC_ROLE_CLAIM", "the claim whose values give roles", "a claim's name", "`groups`", "serve, web"
        ),
        Variable(
            "SHIPLAP_OIDC_ROLES",
            "which value gives which role, the highest that fits; `*` fits everybody; nobody else gets in",
            "VALUE=ROLE, commas between; guest, viewer, member or admin",
            "",
            "serve, web",
        ),
        Variable("SHIPLAP_OIDC_NAME", "what the button says", "a text", "the provider's host", "serve, web"),
    ),
)

_UNITS: Final = Group(
    "The units, and compose.yaml",
    "Read by systemd or docker, not by Shiplap: they become options of its commands, networks and volumes.",
    (
        Variable(
            "SHIPLAP_LISTEN",
            "the address of pages, API and registry; `--listen`",
            "HOST:PORT",
            "`127.0.0.1:8080`",
            "the units of serve and web, compose",
        ),
        Variable(
            "SHIPLAP_ENGINE_OPTIONS",
            "options of `shiplap engine`, for tcp",
            "`--listen fd:// --listen tcp://HOST:PORT --tlscert FILE …`",
            "none",
            "the unit of engine",
        ),
        Variable(
            "SHIPLAP_CONCURRENCY",
            "runs at the same time; `--concurrency`",
            "1 to 64",
            "`2`",
            "the unit of worker, compose",
        ),
        Variable("SHIPLAP_IMAGE", "Shiplap's own image", "an image's name", "`shiplap:latest`", "compose"),
        Variable(
            "SHIPLAP_FRONT",
            "the network of web and workers",
            "the first three numbers of a free /24 network",
            "`172.31.98`",
            "compose",
        ),
        Variable(
            "SHIPLAP_BACK",
            "that of PostgreSQL and Redis, which has no way out",
            "the first three numbers of a free /24 network",
            "`172.31.99`",
            "compose",
        ),
        Variable(
            "SHIPLAP_CONFIG",
            "a directory that web and worker see as `/etc/shiplap`",
            "a path",
            "`compose/config`",
            "compose",
        ),
    ),
)

GROUPS: Final = (_PLACES, _BUILDS, _REGISTRIES, _CLIENT, _SERVICE, _STEPS, _OIDC, _UNITS)

OF_STEPS: Final = (
    ("PATH", "`/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`"),
    ("HOME", "the home directory of the step's user, by the image's `/etc/passwd`"),
    ("TERM", "`xterm`, on a terminal"),
    ("HOSTNAME", "the container's name; of `shiplap run` only"),
    ("SSH_AUTH_SOCK", "the agent's socket, with `RUN --mount=type=ssh`"),
    ("HTTP_PROXY", "and `HTTPS_PROXY`, `FTP_PROXY`, `NO_PROXY`, `ALL_PROXY`, in both cases: as build arguments say"),
    ("SOURCE_DATE_EPOCH", "where an ARG declares it: the build's epoch"),
)

# What one process of Shiplap's tells another by the environment: nobody sets them.
INTERNAL: Final = frozenset({"SHIPLAP_PUSHER", "SHIPLAP_FOLLOWING"})


def names() -> frozenset[str]:
    """All names of GROUPS, the ``_FILE`` variants too."""
    variables = [variable for group in GROUPS for variable in group.variables]
    return frozenset(
        name for variable in variables for name in ((variable.name, f"{variable.name}_FILE")[: 1 + variable.in_file])
    )
