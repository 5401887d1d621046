"""Generate texts with and without secrets from a seed. No real secret, and no stored one.

The texts with secrets are the places where errors show them: settings, requests, headers, JSON, addresses, dumps of
variables in several languages, commands. A secret that no form gives away stands at a place that names it.
"""

import base64
import json
import random
import string
import uuid
from urllib.parse import quote

LOWER, UPPER, DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
ALNUM = LOWER + UPPER + DIGITS
URLSAFE = ALNUM + "-_"
VOCABULARY = [
    "correct",
    "horse",
    "battery",
    "staple",
    "winter",
    "orange",
    "garden",
    "silver",
    "monkey",
    "summer",
    "dragon",
    "coffee",
    "window",
    "rocket",
    "planet",
]


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def of(self, letters, count):
        return "".join(self.r.choice(letters) for _ in range(count))

    def hexadecimal(self, count):
        return self.of("0123456789abcdef", count)

    def uuid(self):
        return str(uuid.UUID(int=self.r.getrandbits(128), version=4))

    def base64(self, count):
        return base64.b64encode(self.r.randbytes(count)).decode()

    # -- secrets with a known form-----------------------------------------------------------------------------------

    def jwt(self):
        def part(value):
            return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

        head = part({"alg": self.r.choice(["HS256", "RS256"]), "typ": "JWT"})
        return f"{head}.{part({'sub': self.of(DIGITS, 8), 'iat': self.r.randrange(10**9, 2 * 10**9)})}.{self.of(URLSAFE, 43)}"

    def pem(self):
        kind = self.r.choice(["RSA ", "EC ", "", "OPENSSH ", "ENCRYPTED "])
        lines = [self.of(ALNUM + "+/", 64) for _ in range(self.r.randrange(4, 24))]
        end = self.r.choice(["\n", "\\n"])
        return end.join([f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----"])

    def card(self):
        start, length = self.r.choice(
            [("4", 16), ("51", 16), ("55", 16), ("37", 15), ("6011", 16), ("2221", 16)]
        )
        digits = start + self.of(DIGITS, length - len(start) - 1)
        double = (int(d) * 2 for d in digits[::-2])
        left = sum(d - 9 if d > 9 else d for d in double) + sum(int(d) for d in digits[-2::-2])
        digits += str(-left % 10)
        sign = self.r.choice(["", " ", "-"])
        return sign.join(digits[at : at + 4] for at in range(0, 16, 4)) if length == 16 else digits

    def iban(self):
        bank = self.of(DIGITS, 18)
        return f"DE{98 - int(bank + '131400') % 97:02d}{bank}"

    def vendor(self):
        r = self.r
        return r.choice(
            [
                lambda: "AKIA" + self.of(UPPER + "234567", 16),
                lambda: "ASIA" + self.of(UPPER + "234567", 16),
                lambda: r.choice(["ghp_", "gho_", "ghs_", "ghu_"]) + self.of(ALNUM, 36),
                lambda: "github_pat_" + self.of(ALNUM, 22) + "_" + self.of(ALNUM, 59),
                lambda: r.choice(["glpat-", "gldt-", "glrt-", "glptt-"]) + self.of(URLSAFE, 20),
                lambda: f"xoxb-{self.of(DIGITS, 12)}-{self.of(DIGITS, 12)}-{self.of(ALNUM, 24)}",
                lambda: f"xoxp-{self.of(DIGITS, 12)}-{self.of(DIGITS, 12)}-{self.hexadecimal(32)}",
                lambda: r.choice(["sk_live_", "rk_live_", "sk_test_"]) + self.of(ALNUM, 24),
                lambda: "whsec_" + self.of(ALNUM, 32),
                lambda: "AIza" + self.of(URLSAFE, 35),
                lambda: "GOCSPX-" + self.of(URLSAFE, 28),
                lambda: "ya29." + self.of(URLSAFE, 80),
                lambda: "SK" + self.hexadecimal(32),
                lambda: f"SG.{self.of(URLSAFE, 22)}.{self.of(URLSAFE, 43)}",
                lambda: f"{self.hexadecimal(32)}-us{r.randrange(1, 22)}",
                lambda: "npm_" + self.of(ALNUM, 36),
                lambda: "pypi-AgEIcHlwaS5vcmc" + self.of(URLSAFE, 120),
                lambda: f"{self.of(ALNUM, 3)}8Q~{self.of(URLSAFE, 34)}",
                lambda: f"sk-proj-{self.of(URLSAFE, 48)}A1",
                lambda: f"sk-{self.of(ALNUM, 20)}T3BlbkFJ{self.of(ALNUM, 20)}",
                lambda: f"{self.of('123456789', 10)}:AA{self.of(URLSAFE, 33)}",
                lambda: "hvs." + self.of(URLSAFE, 90),
                lambda: "dop_v1_" + self.hexadecimal(64),
                lambda: "shpat_" + self.hexadecimal(32),
                lambda: "hf_" + self.of(LOWER + UPPER, 34),
                lambda: "glsa_" + self.of(ALNUM, 32) + "_" + self.hexadecimal(8),
            ]
        )()

    def telling(self):
        """A secret that any text gives away."""
        return self.r.choices([self.vendor, self.jwt, self.pem, self.card, self.iban], [14, 3, 2, 2, 1])[0]()

    # -- secrets with a name beside them------------------------------------------------------------------------------

    def password(self, signs):
        r = self.r
        return r.choice(
            [
                lambda: r.choice(VOCABULARY) + self.of(DIGITS, r.randrange(1, 5)),
                lambda: r.choice(VOCABULARY).capitalize() + r.choice(signs) + self.of(DIGITS, 3),
                lambda: "-".join(r.sample(VOCABULARY, 4)),
                lambda: self.of(LOWER, 10),
                lambda: self.of(ALNUM, r.randrange(8, 25)),
                lambda: self.of(ALNUM + signs, r.randrange(10, 25)) + "a1",
                lambda: self.of(DIGITS, r.randrange(6, 11)),
            ]
        )()

    def opaque(self):
        r = self.r
        return r.choice(
            [
                lambda: self.hexadecimal(r.choice([32, 40, 64])),
                self.uuid,
                lambda: self.base64(r.choice([24, 32, 48])),
                lambda: self.of(URLSAFE, r.randrange(20, 60)),
                lambda: self.of(LOWER + DIGITS, r.randrange(16, 40)) + "7",
            ]
        )()


PASSWORD_KEYS = [
    "password",
    "passwd",
    "pwd",
    "db_password",
    "DB_PASSWORD",
    "POSTGRES_PASSWORD",
    "smtp-password",
    "userPassword",
    "new_password",
    "passphrase",
]
TOKEN_KEYS = [
    "token",
    "access_token",
    "refresh_token",
    "authToken",
    "api_key",
    "apiKey",
    "API_KEY",
    "X-Api-Key",
    "secret",
    "client_secret",
    "SECRET_KEY",
    "csrf_token",
    "session_id",
    "private_key",
    "signing_key",
    "webhook_secret",
    "STRIPE_SECRET_KEY",
    "aws_secret_access_key",
    "accountKey",
    "JWT_SECRET",
]
NOISE = [
    'Traceback (most recent call last):\n  File "/srv/app/views.py", line 214, in post\n    return self.handle(request)\n',
    "2026-03-04T10:30:45.123Z ERROR [worker-3] shop.orders: request failed\n",
    "java.lang.IllegalStateException: no connection\n\tat com.acme.shop.Pool.get(Pool.java:55)\n",
    "    at Object.<anonymous> (/srv/app/node_modules/pg/lib/client.js:132:17)\n",
    "goroutine 17 [running]:\nmain.handler(0xc0000b2000)\n\t/go/src/app/main.go:42 +0x1d\n",
    "PHP Fatal error:  Uncaught PDOException in /var/www/html/index.php:12\n",
    "",
]


def labelled(m):
    """A text in which a name tells of the secret, and the secret."""
    r = m.r
    is_password = r.random() < 0.45
    key = r.choice(PASSWORD_KEYS if is_password else TOKEN_KEYS)

    def value(signs="!#%*+._-^~?@$"):
        return m.password(signs) if is_password else m.opaque()

    plain = value("!*+._-~")
    word = plain.replace("$", "S")
    rich = value()
    forms = [
        (lambda v: json.dumps({"user": "ann", key: v, "id": 5}), rich),
        (lambda v: json.dumps({"config": {"db": {key: v}}}, indent=2), rich),
        (lambda v: json.dumps({"body": json.dumps({key: v, "n": 1})}), rich),
        (lambda v: repr({"host": "db", key: v}), rich),
        (lambda v: f"Settings(host='db', {key.replace('-', '_')}='{v}', debug=False)", rich),
        (lambda v: f"db:\n  host: localhost\n  {key}: {v}\n  port: 5432", plain),
        (lambda v: f'db:\n  {key}: "{v}"', rich),
        (lambda v: f"PATH=/usr/bin\n{key.upper().replace('-', '_')}={v}\nHOME=/root", rich),
        (lambda v: f"export {key.upper().replace('-', '_')}='{v}'", rich),
        (lambda v: f"docker run -e {key.upper().replace('-', '_')}={v} image", word),
        (lambda v: f"[db]\nhost = localhost\n{key} = {v}\n", plain),
        (lambda v: f"spring.datasource.{key}={v}\n", rich),
        (lambda v: f"GET /cb?state=ok&{key}={quote(v, safe='')}&page=2 HTTP/1.1", plain),
        (lambda v: f"POST body: name=ann&{key}={quote(v, safe='')}", plain),
        (lambda v: f"https://app.test/login?next=%2Fcb%3F{key}%3D{quote(v, safe='')}%26x%3D1", plain),
        (lambda v: f"user[email]=x&user[{key}]={quote(v, safe='')}&commit=Save", plain),
        (lambda v: f"X-{key.replace('_', '-').title()}: {v}\r\nAccept: */*", word),
        (lambda v: f"<config><{key}>{v}</{key}></config>", plain),
        (lambda v: f"Array\n(\n    [{key}] => {v}\n    [id] => 5\n)", plain),
        (lambda v: f'array(2) {{\n  ["{key}"]=>\n  string({len(v)}) "{v}"\n}}', rich),
        (lambda v: f'{{:host=>"db", :{key}=>"{v}"}}', rich),
        (lambda v: f"&{{Host:db {key.title().replace('_', '').replace('-', '')}:{v} Port:5432}}", word),
        (lambda v: f"Config{{host=db, {key}={v}, port=5432}}", plain),
        (lambda v: f'level=error msg="no" {key}={v} user=ann', word),
        (lambda v: f'level=error msg="no" {key}="{v}" user=ann', rich),
        (lambda v: f"connect({{ host: 'db', {key.replace('-', '_')}: '{v}' }})", rich),
        (lambda v: f"tool --host db --{key.replace('_', '-')} {v} --verbose", word),
        (lambda v: f"tool --host=db --{key.replace('_', '-')}={v} --verbose", word),
        (lambda v: f'    {key.replace("-", "_")} = "{v}"', rich),
        (lambda v: f"os.environ[\"{key.upper()}\"] = '{v}'", rich),
        (lambda v: f"- name: {key.upper()}\n  value: {v}", plain),
        (lambda v: json.dumps([{"name": key, "value": v}]), rich),
        (lambda v: f"{{&quot;{key}&quot;: &quot;{v}&quot;}}", plain),
        (lambda v: f"const {key.replace('-', '_')} = `{v}`;", plain),
    ]
    make, secret = r.choice(forms)
    shown = make(secret)
    if secret not in shown:  # written in another way there
        secret = quote(secret, safe="") if quote(secret, safe="") in shown else secret
    return shown, secret


def placed(m):
    """A text in which the form of the place tells of the secret."""
    r = m.r
    password = m.password("!*+._-~")
    opaque = m.opaque()
    basic = base64.b64encode(f"ann:{m.password('!-_')}".encode()).decode()
    return r.choice(
        [
            lambda: (f"could not connect to postgres://app:{password}@db.internal:5432/shop", password),
            lambda: (f"DATABASE_URL=mysql://root:{password}@10.0.0.5/shop", password),
            lambda: (f"redis://:{password}@cache:6379/0 timed out", password),
            lambda: (f"amqp://svc:{quote(password, safe='')}@mq/vhost", quote(password, safe="")),
            lambda: (f"mongodb+srv://app:{password}@cluster0.x.mongodb.net/?retryWrites=true", password),
            lambda: (f"fatal: could not read https://{(s := m.of(ALNUM, 40))}@git.test/acme/shop.git", s),
            lambda: (f"SENTRY_DSN=https://{(s := m.hexadecimal(32))}@o1.ingest.test/12", s),
            lambda: (f"Authorization: Bearer {opaque}\r\nHost: x.test", opaque),
            lambda: (f"authorization: Basic {basic}", basic),
            lambda: (f"curl -H 'Authorization: Bearer {opaque}' https://x.test", opaque),
            lambda: (f"curl -u admin:{password} https://x.test", password),
            lambda: (f"{{'Authorization': 'token {opaque}', 'Accept': '*/*'}}", opaque),
            lambda: (f"Cookie: theme=dark; sessionid={opaque}; lang=de", opaque),
            lambda: (f"Set-Cookie: sid={opaque}; Path=/; HttpOnly", opaque),
            lambda: (f"Server=db;Database=shop;User Id=sa;Password={password};Encrypt=true", password),
            lambda: (
                f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={(s := m.base64(64))};EndpointSuffix=x",
                s,
            ),
            lambda: (f"https://a.blob.test/c/f?sv=2022&sig={(s := quote(m.base64(32), safe=''))}&se=2026", s),
            lambda: (f"https://s3.test/b/k?X-Amz-Expires=60&X-Amz-Signature={(s := m.hexadecimal(64))}", s),
            lambda: (f"ALTER USER app WITH PASSWORD '{password}';", password),
            lambda: (f"CREATE USER 'a'@'%' IDENTIFIED BY '{password}'", password),
            lambda: (
                f"https://hooks.slack.com/services/T{(s := f'{m.of(UPPER + DIGITS, 8)}/B{m.of(UPPER + DIGITS, 8)}/{m.of(ALNUM, 24)}')}",
                s,
            ),
            lambda: (f"machine git.test login ann password {password}", password),
            lambda: (f"LICENSE_BLOB: {(s := m.of(ALNUM, 30) + 'aZ9bX8cY7dW6')}", s),
        ]
    )()


def stated_passwords(m):
    """A text with a secret that gives itself away, anywhere."""
    secret = m.telling()
    r = m.r
    forms = [
        f"Invalid value {secret} given",
        f"remote: HTTP 401 for {secret}\n",
        json.dumps({"args": ["deploy", secret]}).replace("\\\\n", "\\n"),
        f"requests.exceptions.HTTPError: 403 for url: https://x.test/v1?x={secret}",
        f"('{secret}', 5)",
        f"x={secret};",
        f'    call("{secret}")',
        f"ann wrote: my key is {secret}, what now",
        f"| {secret} | 5 |",
    ]
    if secret.startswith("-----") or " " in secret:
        forms = [
            f"Invalid value {secret} given",
            f"ann wrote: it is {secret}, what now",
            f"could not read:\n{secret}\n",
        ]
    shown = r.choice(forms)
    return shown, secret if secret in shown else secret.replace("\n", "\\n")


def seeded(count, seed=20260301):
    """So many texts, each with its secret."""
    m = Maker(seed)
    samples = []
    for _ in range(count):
        shown, secret = m.r.choices([labelled, placed, stated_passwords], [50, 25, 25])[0](m)
        before, after = m.r.choice(NOISE), m.r.choice(NOISE)
        assert secret in shown, (secret, shown)
        samples.append((before + shown + "\n" + after, secret))
    return samples


# -- without secrets -------------------------------------------------------------------------------------------------


def clean(count, seed=20260302):
    """Return traces and logs that look suspicious and contain neither secrets nor personal data."""
    m = Maker(seed)
    r = m.r

    def stamp():
        return f"2026-{r.randrange(1, 13):02d}-{r.randrange(1, 29):02d}T{r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}.{r.randrange(1000):03d}Z"

    def line():
        return r.randrange(1, 2000)

    def address():
        return f"0x{m.hexadecimal(12)}"

    def python():
        error = r.choice(
            [
                "KeyError: 'token'",
                "AttributeError: 'NoneType' object has no attribute 'password'",
                "TypeError: login() got an unexpected keyword argument 'api_key'",
                "ValueError: password must be at least 8 characters",
                f"django.core.exceptions.ObjectDoesNotExist: order {m.uuid()}",
                f"AssertionError: <Session object at {address()}>",
                f'sqlalchemy.exc.IntegrityError: duplicate key value violates unique constraint "token_key" DETAIL: Key (id)=({r.randrange(10**9)}) already exists.',
                "jwt.exceptions.DecodeError: Not enough segments in token: expected 3",
                "PermissionDenied: CSRF token missing.",
                f"hashlib mismatch: expected sha256:{m.hexadecimal(64)}, got sha256:{m.hexadecimal(64)}",
            ]
        )
        code = r.choice(
            [
                "user = authenticate(username=username, password=password)",
                "token = request.headers.get('Authorization')",
                "self.api_key = settings.API_KEY",
                "client = Client(api_key=os.environ['API_KEY'], secret=secret)",
                "token: Optional[str] = None",
                "def login(user: str, password: str, token: bytes) -> Session:",
                "session = requests.Session()",
                "key = f'{prefix}:{user.id}'",
                "return jwt.decode(token, key=public_key, algorithms=['RS256'])",
                "password = form.cleaned_data['password']",
                "if not check_password(password, user.password):",
                "assert token.type == 'access', token",
                "tokens = tokenizer.encode(text, max_tokens=4096)",
                "cookies = response.cookies",
                "auth = (user, passwd)",
                "self.password = kwargs.pop('password', None)",
            ]
        )
        return (
            "Traceback (most recent call last):\n"
            f'  File "/srv/app/{r.choice(["auth", "token", "password", "session", "orders"])}.py", line {line()}, in {r.choice(["post", "get_token", "reset_password"])}\n'
            f"    {code}\n    ^^^^^^^^^^^^^^^\n{error}"
        )

    def javascript():
        error = r.choice(
            [
                "SyntaxError: Unexpected token < in JSON at position 0",
                "SyntaxError: Unexpected token: punc (})",
                "SyntaxError: Unexpected token 'export'",
                "TypeError: Cannot read properties of undefined (reading 'token')",
                "Error: Invalid or expired token: jwt expired",
                "Error: secretOrPrivateKey must have a value",
            ]
        )
        return (
            f"{error}\n    at TokenStore.get (/srv/app/dist/chunk-{m.hexadecimal(8)}.js:{line()}:{line()})\n"
            f"    at Object.<anonymous> (webpack://shop/./src/auth/token.ts?{m.hexadecimal(4)}:{line()}:12)\n"
            f"    at async https://cdn.test/assets/index-{m.of(ALNUM, 8)}.js:1:{r.randrange(10**6)}\n"
            f'    integrity="sha384-{m.base64(48)}"'
        )

    def java():
        return (
            f"org.springframework.security.authentication.BadCredentialsException: Bad credentials\n"
            f"\tat org.springframework.security.authentication.dao.AbstractUserDetailsAuthenticationProvider.authenticate(AbstractUserDetailsAuthenticationProvider.java:{line()})\n"
            f"\tat com.acme.TokenFilter.doFilter(TokenFilter.java:{line()})\n"
            f"\tat com.acme.Orders$$EnhancerBySpringCGLIB$${m.hexadecimal(8)}.find(<generated>)\n"
            f"\tat com.acme.Orders$$Lambda$14/0x{m.hexadecimal(16)}.run(Unknown Source)\n"
            f"Caused by: java.lang.IllegalArgumentException: token: must not be null\n\t... 12 more"
        )

    def go():
        return (
            f"panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: code=0x1 addr=0x18 pc={address()}]\n"
            f"goroutine {line()} [running]:\nmain.(*TokenSource).Token({address()}, 0x0)\n\t/go/pkg/mod/golang.org/x/oauth2@v0.0.0-2026{m.of(DIGITS, 10)}-{m.hexadecimal(12)}/token.go:{line()} +0x{m.hexadecimal(3)}\n"
            f"github.com/acme/shop v1.2.3 h1:{m.base64(32)}"
        )

    def php():
        return (
            f"PHP Fatal error:  Uncaught Error: Call to a member function getToken() on null in /var/www/html/src/Security/Token.php:{line()}\nStack trace:\n"
            f"#0 /var/www/html/vendor/symfony/http-kernel/HttpKernel.php({line()}): App\\Security\\PasswordHasher->verify(Object(App\\Entity\\User), NULL)\n"
            f"#1 {{main}}\n  $password = $request->get('password');\n  ['token' => $token, 'secret' => $this->secret, 'password' => null]"
        )

    def sql():
        return r.choice(
            [
                f'ERROR:  duplicate key value violates unique constraint "users_email_key"\nDETAIL:  Key (order_id)=({r.randrange(10**12)}) already exists.',
                'psycopg.errors.UndefinedColumn: column "token" does not exist\nLINE 1: SELECT token, secret FROM api_keys WHERE id = $1',
                "SELECT id, password FROM users WHERE token = ? AND session = :session LIMIT 10",
                "UPDATE users SET password = %s, api_key = %(api_key)s WHERE id = 5",
                f"Deadlock found when trying to get lock; PRIMARY KEY (`id`) = {r.randrange(10**9)}; password VARCHAR(255) NOT NULL",
                "ORA-01017: invalid username/password; logon denied",
                'FATAL:  password authentication failed for user "app"',
            ]
        )

    def log():
        return "\n".join(
            r.choice(
                [
                    f"{stamp()} INFO request_id={m.uuid()} status=200 duration_ms={line()} bytes={r.randrange(10**6)}",
                    f"{stamp()} traceparent: 00-{m.hexadecimal(32)}-{m.hexadecimal(16)}-01",
                    f'{stamp()} etag="{m.base64(18)}" x-amz-request-id={m.of(UPPER + DIGITS, 16)}',
                    f"{stamp()} commit {m.hexadecimal(40)} (HEAD -> main, tag: v1.{line()}.0)",
                    f'{stamp()} Pulled image "shop@sha256:{m.hexadecimal(64)}" pod/web-{m.of(LOWER + DIGITS, 10)}-{m.of(LOWER + DIGITS, 5)}',
                    f"{stamp()} usage tokens: {line()} max_tokens=4096 token_type=bearer expires_in=3600 token_count={line()}",
                    f"{stamp()} cache_key=orders:{m.hexadecimal(32)} key=users:{line()} hit=true",
                    f"{stamp()} img src=data:image/png;base64,iVBORw0KGgo{m.base64(45)}",
                    f'{stamp()} logo="iVBORw0KGgo{m.base64(45)}" body=/9j/4AAQ{m.base64(30)}',
                    f'{stamp()} {{"password": "[Filtered]", "token": null, "secret": "***", "session": true, "auth": "basic"}}',
                    f"{stamp()} Authorization: [Filtered] Cookie: [Filtered]",
                    f"{stamp()} PWD=/srv/app OLDPWD=/srv SECRET_KEY=${{SECRET_KEY}} TOKEN=$TOKEN password=********",
                    f"{stamp()} User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.6099.{line()} Safari/537.36",
                    f"{stamp()} order {r.randrange(10**15, 10**16 - 1) // 10} shipped, tracking 1Z{m.of(UPPER + DIGITS, 16)}, took {r.random()}s",
                    f"{stamp()} timestamp={r.randrange(17 * 10**17, 18 * 10**17)} version=2.{line()}.1+{m.hexadecimal(7)} build=20260304.{line()}",
                    f"{stamp()} Invalid password for user ann. Token is required. The secret: none. Session expired",
                    f"{stamp()} GET /api/v1/tokens/{m.uuid()}?page=2&sort=key&signature=false HTTP/1.1",
                    f"{stamp()} Basic authentication is not supported; use Bearer tokens instead (see docs/authentication.md)",
                    f"{stamp()} npm ERR! sha512-{m.base64(64)} integrity checksum failed",
                    f"{stamp()} class AbstractSingletonProxyFactoryBean2Impl handler=AbstractUserDetailsAuthenticationProviderV2Adapter",
                    f"{stamp()} file:///srv/app/node_modules/.pnpm/@babel+core@7.24.0_{m.of(LOWER + DIGITS, 26)}/index.js",
                    f"{stamp()} <AuthToken: AuthToken object (5)> password_reset_url=/reset password_changed_at={stamp()}",
                ]
            )
            for _ in range(r.randrange(3, 9))
        )

    def ruby():
        return (
            f"ActionView::Template::Error (undefined method `token' for nil:NilClass):\n"
            f'  Parameters: {{"utf8"=>"✓", "authenticity_token"=>"[FILTERED]", "user"=>{{"password"=>"[FILTERED]"}}}}\n'
            f"app/models/token.rb:{line()}:in `secret'\n  devise (4.9.3) lib/devise/models/authenticatable.rb:{line()}"
        )

    kinds = [python, javascript, java, go, php, sql, log, log, ruby]
    return [kinds[at % len(kinds)]() for at in range(count)]
