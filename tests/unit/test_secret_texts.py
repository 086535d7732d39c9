"""Secrets in exceptions and tracebacks: what is hidden by default, and what stays readable beside it."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_monitor.config.schema import DEFAULT_REDACTED
from ha_monitor.events.redact import Redactor
from ha_monitor.text.secrets import SecretFinder
from ha_monitor.text.values import MANY_MARKS, Effort

redactor = Redactor(DEFAULT_REDACTED, 32_768)
KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7hunter2VJTUt9Us8"
FRAME = '  File "/srv/shop/pay.py", line 7, in pay\n'

# fmt: off
SECRET = [
    # passwords in URLs
    ("postgres://u:hunter2@db/shop", ["postgres://u:", "@db/shop"]),
    ("OperationalError('postgresql+psycopg2://u:hunter2@db:5432/shop refused')", ["@db:5432/shop refused')"]),
    ("redis://:hunter2@cache:6379/0 timed out", ["redis://:", "@cache:6379/0 timed out"]),
    ("mysql://root:hunter2@127.0.0.1/x?charset=utf8", ["@127.0.0.1/x?charset=utf8"]),
    ("cannot clone https://bob:hunter2@git.example/a.git now", ["https://bob:", "@git.example/a.git now"]),
    ("amqp://bob:p%40hunter2%2F@rabbit//", ["amqp://bob:", "@rabbit//"]),
    ("amqp://bob:p@hunter2@rabbit//", ["amqp://bob:", "@rabbit//"]),
    ("postgres://u:pa/hunter2@db/shop", ["postgres://u:", "@db/shop"]),
    ("postgres://u:hunter2?#@db/shop", ["postgres://u:", "@db/shop"]),
    ("ftp://anon:hunter2@files/x;smb://v:hunter2@nas/y", ["@files/x;smb://v:", "@nas/y"]),
    ("mongodb+srv://u:hunter2@c0.example.net/?w=1", ["@c0.example.net/?w=1"]),
    ("{'url': 'https://u:hunter2@h/', 'n': 1}", ["@h/', 'n': 1}"]),
    ("https://0123456789abcdefhunter2@sentry.example/4", ["@sentry.example/4"]),
    ("smtp://bob@shop.example:hunter2@mail.example:25", ["@mail.example:25"]),
    ("cannot reach amqp://bob:hunter2", ["cannot reach amqp://bob:"]),
    # headers
    ("Authorization: Bearer hunter2\nHost: shop", ["Authorization: ", "\nHost: shop"]),
    ("{'Authorization': 'Bearer hunter2', 'Host': 'shop'}", ["'Host': 'shop'"]),
    ("{'authorization': 'Basic Ym9iOmh1bnRlcjI=hunter2', 'a': 1}", ["'a': 1"]),
    ("headers={b'Authorization': b'Token hunter2'}, timeout=3", [", timeout=3"]),
    ("b'GET / HTTP/1.1\\r\\nAuthorization: Basic hunter2==\\r\\nHost: shop\\r\\n'", ["GET /", "Host: shop"]),
    ("Proxy-Authorization: Digest username=\"bob\", response=\"hunter2\"\nx", ["Proxy-Authorization", "\nx"]),
    ("curl -H 'Authorization: Bearer hunter2' https://shop/", ["curl -H", "' https://shop/"]),
    ("refused: Bearer eyJhbGciOi.hunter2 is over", ["refused: Bearer", " is over"]),
    ("auth failed with Basic hunter2Og== for bob", ["auth failed with Basic", "for bob"]),
    ("Cookie: sessionid=abc; theme=hunter2\nAccept: x", ["Cookie: ", "\nAccept: x"]),
    ("Set-Cookie: id=hunter2; Path=/; Secure\nb", ["Set-Cookie: ", "\nb"]),
    ("{'Cookie': 'a=hunter2; b=hunter2', 'n': 2}", ["'n': 2"]),
    ("X-Api-Key: hunter2\nAccept: x", ["X-Api-Key: ", "\nAccept: x"]),
    ("{'X-Api-Key': 'hunter2', 'Accept': 'x'}", ["'Accept': 'x'"]),
    ("X-Auth-Token: hunter2", ["X-Auth-Token: "]),
    ("[(b'x-api-key', b'hunter2'), (b'accept', b'x')]", ["(b'accept', b'x')"]),
    # assignments
    ("data['password'] = 'hunter2'", ["data['password'] = "]),
    ('data["password"]="hunter2"; go()', ["; go()"]),
    ("os.environ['DB_PASSWORD'] = \"hunter2\"\n" + FRAME, [FRAME]),
    ("password = 'hunter2'\nuser = 'bob'", ["user = 'bob'"]),
    ("self.db_password='hunter2', user='bob'", ["user='bob'"]),
    ("login(user='bob', password='hunter2')", ["login(user='bob', "]),
    ("password: str = 'hunter2'", ["password: "]),
    ("password: Optional[str] = 'hunter2'", ["password: "]),
    ("password := 'hunter2', n := 1", ["n := 1"]),
    ("'password' => 'hunter2', 'n' => 1", ["'n' => 1"]),
    ("password=hunter2 user=bob", ["user=bob"]),
    ("host=db,password=hunter2,user=bob", ["host=db", "user=bob"]),
    ("password=b'hunter2', n=1", ["n=1"]),
    ("password='''hunter2\nhunter2''', n=1", ["n=1"]),
    ("password='it\\'s hunter2', n=1", ["n=1"]),
    ("secret=SecretStr('x, hunter2'), n=1", ["n=1"]),
    ("auth=('bob', 'hunter2'), timeout=3", ["timeout=3"]),
    # keys of other names
    ("pwd=hunter2 uid=bob", ["uid=bob"]),
    ("Server=db;Uid=bob;Pwd=hunter2;Port=3", ["Server=db;Uid=bob;", ";Port=3"]),
    ("{'passwd': 'hunter2', 'n': 1}", ["'n': 1"]),
    ("passphrase: hunter2\nb", ["\nb"]),
    ("{'userPwd': 'hunter2', 'n': 1}", ["'n': 1"]),
    ("{'auth': 'hunter2', 'n': 1}", ["'n': 1"]),
    ("{'proxyAuth': 'hunter2', 'n': 1}", ["'n': 1"]),
    ("aws_access_key_id=hunter2 region=eu", ["region=eu"]),
    ("AWS_SECRET_ACCESS_KEY=hunter2\nAWS_REGION=eu", ["AWS_REGION=eu"]),
    ("{'accessKey': 'hunter2', 'n': 1}", ["'n': 1"]),
    ("secret_key = hunter2\nb", ["\nb"]),
    ("{'client-secret': 'hunter2', 'n': 1}", ["'n': 1"]),
    ("dsn='hunter2', n=1", ["n=1"]),
    ("SENTRY_DSN=https://hunter2@o1.example/2\nb", ["\nb"]),
    ("export DB_PASS=hunter2; make", ["export DB_PASS=", "; make"]),
    ("PGPASSWORD=hunter2 psql -h db", ["psql -h db"]),
    ("csrfmiddlewaretoken=hunter2&page=2", ["&page=2"]),
    ("GET /?token=hunter2&page=2", ["GET /?token=", "&page=2"]),
    ("https://h/a?x=1&api_key=hunter2&y=2 gone", ["https://h/a?x=1&api_key=", "&y=2 gone"]),
    ("https://b.example/f?sv=1&sig=hunter2%2Fabcdefgh123&se=2", ["?sv=1&sig=", "&se=2"]),
    ("DefaultEndpointsProtocol=https;AccountKey=hunter2abcdefgh123==;S=x", ["S=x"]),
    ("dbpass=hunter2 user=bob", ["user=bob"]),
    ("DBPASS=hunter2 psql", [" psql"]),
    ("{'dbPass': 'hunter2', 'n': 1}", ["'n': 1"]),
    ("mypwd=hunter2 user=bob", ["user=bob"]),
    ("MYSQL_PWD=hunter2 mysql", [" mysql"]),
    ("pass: hunter2\nb", ["\nb"]),
    ("pass=hunter2 user=bob", ["user=bob"]),
    ("{'pass': 'hunter2', 'n': 1}", ["'n': 1"]),
    ("<pass>hunter2</pass><n>1</n>", ["<n>1</n>"]),
    ("login(user='bob', pass_='hunter2')", ["login(user='bob', "]),
    ("passcode=hunter2 n=1", ["n=1"]),
    ("AccountName=shop;AccountKey=hunter2==;EndpointSuffix=x", ["AccountName=shop;", ";EndpointSuffix=x"]),
    ("Endpoint=sb://x/;SharedAccessKeyName=Root;SharedAccessKey=hunter2=;EntityPath=q", [";EntityPath=q"]),
    ("https://b.example/f?sig=hunter2", ["https://b.example/f?sig="]),
    ("https://b.example/f?sv=1&sig=hunter2%3D&se=2", ["?sv=1&sig=", "&se=2"]),
    ("Ocp-Apim-Subscription-Key: hunter2\nb", ["\nb"]),
    ("encryption_key='hunter2', signing_key='hunter2', n=1", ["n=1"]),
    ("RAILS_MASTER_KEY=hunter2 rails", [" rails"]),
    ("PRIVATE-TOKEN: hunter2\nb", ["\nb"]),
    ("PHPSESSID=hunter2; theme=x", ["theme=x"]),
    ("password\n= hunter2\nb", ["password\n", "\nb"]),
    ("password\n    = 'hunter2', n=1", ["n=1"]),
    ("password =\n    'hunter2', n=1", ["n=1"]),
    ("password = \\\n    hunter2\nb", ["\nb"]),
    ("{'password': 'a long one '\n             'hunter2',\n 'n': 1}", ["'n': 1"]),
    ("password='hun' 'hunter2', n=1", ["n=1"]),
    # pairs, nested values, JSON in texts
    ("('password', 'hunter2')", ["('password', "]),
    ("[('user', 'bob'), ('password', 'hunter2')]", ["('user', 'bob')"]),
    ("['password', 'hunter2']", ["['password', "]),
    ("('password', 'hunter2', 5)", ["('password', ", ", 5)"]),
    ("['HSET', 'user:1', 'password', 'hunter2', 'name', 'bob']", ["'user:1'", "'name', 'bob']"]),
    ("('token', ['hunter2'])", ["('token', "]),
    ("os.environ.get('DB_PASSWORD', 'hunter2')", ["os.environ.get('DB_PASSWORD', "]),
    ("{'name': 'DB_PASSWORD', 'value': 'hunter2'}", ["'name': 'DB_PASSWORD', 'value': "]),
    ("{'a': {'tokens': ['hunter2', {'b': ('hunter2',)}]}, 'n': 1}", ["'n': 1"]),
    ('{"password": "hunter2", "n": 1}', ['"n": 1']),
    ('b\'{"password": "hunter2", "n": 1}\'', ['"n": 1}\'']),
    ('{"a": "{\\"password\\": \\"hunter2\\", \\"n\\": 1}"}', ['\\"n\\": 1}"}']),
    ('{"a": "{\\"password\\": \\"hun\\\\\\"ter2 hunter2\\", \\"n\\": 1}"}', ['\\"n\\": 1}"}']),
    ("{\n  'tokens': [\n    'hunter2',\n    'hunter2'\n  ],\n  'n': 1\n}", ["'n': 1"]),
    ("{'password': 'hunter2", ["{'password': "]),
    ("{'password': ['a', 'hunter2", ["{'password': "]),
    ("<user><password>hunter2</password><n>1</n></user>", ["<n>1</n>"]),
    ("<add key='x' password='hunter2' n='1'/>", ["n='1'/>"]),
    ('<input name="password" value="hunter2" n="1">', ['n="1">']),
    ("{&quot;password&quot;: &quot;hunter2&quot;}", ["{&quot;password&quot;: "]),
    ("password_of_the_database_of_the_shop = 'hunter2', n = 1", ["n = 1"]),
    # command lines and statements
    ("mysql --password hunter2 --host db", ["mysql --password ", " --host db"]),
    ("mysql --password=hunter2 --host db", ["mysql --password=", " --host db"]),
    ("['mysql', '--db-password', 'hunter2', '--host', 'db']", ["'--host', 'db'"]),
    ("java -storepass x -Dtoken=hunter2 -jar a.jar", ["-jar a.jar"]),
    ("tool -password 'hunter2 hunter2' -v", ["tool -password ", " -v"]),
    ("CREATE USER bob IDENTIFIED BY 'hunter2' REQUIRE SSL", ["CREATE USER bob", "REQUIRE SSL"]),
    ("ALTER ROLE bob PASSWORD 'hunter2' VALID", ["ALTER ROLE bob", " VALID"]),
    ("the password is 'hunter2' for bob", ["for bob"]),
    ("curl -u bob:hunter2 https://shop/", ["curl -u bob:", " https://shop/"]),
    ("curl -sS --user bob:hunter2 https://shop/", ["curl -sS --user bob:", " https://shop/"]),
    ("['curl', '-u', 'bob:hunter2', 'https://shop/']", ["'bob:", "', 'https://shop/']"]),
    ("curl -s \\\n  -ubob:hunter2 https://shop/", [" https://shop/"]),
    ("smbclient //nas/x -U bob%hunter2 -c ls", ["-U bob%", " -c ls"]),
    ("sshpass -p hunter2 ssh host", ["sshpass -p ", " ssh host"]),
    ("sshpass -phunter2 ssh host", ["sshpass -p", " ssh host"]),
    ("['sshpass', '-p', 'hunter2', 'ssh']", ["'ssh']"]),
    ("mysql -uroot -phunter2 shop", ["mysql -uroot -p", " shop"]),
    ("['mysqldump', '-phunter2', 'shop']", ["'shop']"]),
    ("redis-cli -h cache -a hunter2 ping", ["-h cache -a ", " ping"]),
    ("mongosh -u bob -p hunter2 shop", ["-u bob -p ", " shop"]),
    ("docker login -u bob -p hunter2 registry", ["-u bob -p ", " registry"]),
    ("ldapsearch -x -w hunter2 -b dc=shop", ["-b dc=shop"]),
    ("openssl rsa -passin pass:hunter2 -in a.pem", ["openssl rsa -passin pass:"]),
    ("rabbitmqctl add_user bob hunter2", ["add_user bob "]),
    ("CONFIG SET requirepass hunter2", ["requirepass "]),
    ("machine x login bob password hunter2", ["login bob password "]),
    ("SET PASSWORD FOR bob = PASSWORD('hunter2')", ["FOR bob = PASSWORD("]),
    ("requests.get(url, auth=HTTPBasicAuth('bob', 'hunter2'))", ["requests.get(url"]),
    ("BasicAuth('bob', 'hunter2')", ["BasicAuth('bob', "]),
    ("bob:hunter2@tcp(db:3306)/shop", ["bob:", "@tcp(db:3306)/shop"]),
    ("jdbc:oracle:thin:bob/hunter2@//db:1521/x", ["thin:bob/", "@//db:1521/x"]),
    # private keys
    (f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\nend", ["\nend"]),
    (f"-----BEGIN RSA PRIVATE KEY-----\\n{KEY}\\n-----END RSA PRIVATE KEY-----\\n', 1)", ["', 1)"]),
    (f"-----BEGIN OPENSSH PRIVATE KEY-----\n{KEY}\nhunter2+", ["-----BEGIN OPENSSH PRIVATE KEY-----"]),
    (f"load(\n{KEY}\n-----END EC PRIVATE KEY-----\nend", ["load(", "\nend"]),
    (f"-----BEGIN PRIVATE KEY-----\n{KEY}\n{FRAME}ValueError: no", ['"/srv/shop/pay.py"', "ValueError: no"]),
    # what shows by its looks (joined here, so that nobody takes them for real ones)
    ("got eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2_x-y expired", ["got eyJ", " expired"]),
    ("key AKIA" + "HUNTER2ABCDEFGHI denied".replace("HUNTER2", "hunter2"), ["key AKIA", " denied"]),
    ("ghp_" + "hunter2" + "a" * 29 + " revoked", [" revoked"]),
    ("github_pat_" + "hunter2" + "a" * 29 + " revoked", [" revoked"]),
    ("xoxb-" + "123456789-hunter2abc is_inactive", [" is_inactive"]),
    ("https://hooks.slack.com/services/" + "T0000/B0000/hunter2abcdefgh 404", [" 404"]),
    ("No such customer; sk_live_" + "hunter2abcdef, request 1", ["No such customer", ", request 1"]),
    ("Incorrect API key provided: sk-" + "hunter2abcdefghijklmnop. Find", [". Find"]),
    ("AIza" + "hunter2abcdefghijklmnopqrstuvwxyz0123 not valid", [" not valid"]),
    ("glpat-" + "hunter2abcdefghijklmn expired", [" expired"]),
    ("whsec_" + "hunter2abcdefghijklmnop expired", [" expired"]),
    ("xapp-" + "1-hunter2abcdefgh is_inactive", [" is_inactive"]),
    ("SG." + "hunter2abcdefghijklm.hunter2abcdefghijklmnop refused", [" refused"]),
    ("GOCSPX-" + "hunter2abcdefghijklmnopqrst refused", [" refused"]),
    ("dckr_pat_" + "hunter2abcdefghijklmnopqr refused", [" refused"]),
    ("hf_" + "hunter2abcdefghijklmnopqrstuvwxyz refused", [" refused"]),
    *((start + "hunter2abcdefghijklmnop no", [" no"]) for start in ("glptt-", "gldt-", "glrt-", "doo_v1_", "1//0g")),
    # what databases, XML, YAML and pydantic say of a key and its value
    ("DETAIL:  Key (api_token)=(hunter2) already exists.", ["Key (api_token)=", " already exists."]),
    ("Key (shop_id, token)=(3, hunter2) already exists.", ["Key (shop_id, token)=", " already exists."]),
    ("Key (token, shop_id)=(hunter2, 3) already exists.", ["Key (token, shop_id)=", " already exists."]),
    ('<wsse:Password Type="x">hunter2</wsse:Password><n>1</n>', ['<wsse:Password Type="x">', "</wsse:Password><n>1"]),
    ("{'value': 'hunter2', 'name': 'DB_PASSWORD'}, {'value': '1', 'name': 'N'}", ["{'value': '1', 'name': 'N'}"]),
    ('[{"value": "hunter2", "key": "token", "n": 1}]', ['"key": "token", "n": 1']),
    ("- name: DB_PASSWORD\n  value: hunter2\n- name: N\n  value: 1", ["- name: N\n  value: 1"]),
    ('- name: "DB_PASSWORD"\n  value: "hunter2"\n- name: N', ["- name: N"]),
    ("password\n  Input is short [type=short, input_value='hunter2', input_type=x]", ["is short [", "input_type=x]"]),
    ("auth failed with Basic Ym9iOmh1bnRl_hunter2- for bob", ["failed with Basic ", " for bob"]),
    ("{'token': hunter2()", ["{'token': "]),
    # in code
    ("    if password != 'hunter2':\n        refuse()", ["    if password != ", ":\n        refuse()"]),
    ("password += 'hunter2'; go()", ["password += ", "; go()"]),
    ("token = getenv('X') or 'hunter2'; go()", ["token = ", "; go()"]),
    ("password='a' + 'hunter2' + 'b', n=1", ["n=1"]),
    ("password[0]=hunter2 n=1", ["password[0]=", " n=1"]),
    ("password = a.b('hunter2').c('hunter2'); go()", ["; go()"]),
    ("password = a['x']('hunter2'); go()", ["; go()"]),
    ("(('password',\n  'hunter2'),\n ('n', 1))", ["('n', 1))"]),
    ("{'password'\n: 'hunter2', 'n': 1}", ["'n': 1}"]),
]

# A value without quotation marks, in a traceback: its end is the end of the value, of its line at most.
SWALLOWED = [
    (f"ValueError: token=hunter2\n{FRAME}KeyError: it's gone", [FRAME, "KeyError: it's gone"]),
    (f"ValueError('token=hunter2')\n{FRAME}KeyError: it's gone", ["')\n", FRAME, "KeyError: it's gone"]),
    (f"    password = decode(hunter2\n{FRAME}KeyError: ')'", [FRAME, "KeyError: ')'"]),
    (f"    login(password=fetch(hunter2,\n          ^^^^^\n{FRAME}KeyError: x)", ["^^^^^", FRAME, "KeyError: x)"]),
    (f"    token = \"\"\"hunter2\n{FRAME}KeyError: x", [FRAME, "KeyError: x"]),
    (f"    token = 'hunter2\n{FRAME}KeyError: 'x'", [FRAME, "KeyError: 'x'"]),
    (f"password: don't hunter2\n{FRAME}KeyError: isn't", [FRAME, "KeyError: isn't"]),
    ("bad token=hunter2, don't retry it's over", ["bad token=", "don't retry it's over"]),
    ("    password=(hunter2,\nConnectionError: the cause (refused)", ["ConnectionError: the cause (refused)"]),
]

HARMLESS = [
    "the password is too short",
    "password authentication failed for user \"bob\"",
    "author: Bob",
    "authors=['Bob']",
    "the authority: none",
    "authored = 'yesterday'",
    "token count: 5",
    "unexpected token '<' at position 3",
    "tests_passed: 5, compass: north, bypass=1",
    "the bearer of the token, and basic authentication",
    "KeyError: 'password'",
    "InvalidTokenError: Signature has expired",
    "jwt.exceptions.InvalidTokenError: Signature has expired",
    "django.contrib.auth.PasswordMismatch: they differ",
    "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
    "InvalidToken: it is over",
    "google.auth.exceptions.Broken: no refresh",
    "django.contrib.auth.models.User.DoesNotExist: User matching query does not exist.",
    "TokenRevoked: by bob",
    "{'field': 'password', 'error': 'too short'}",
    "{'loc': ('body', 'password'), 'msg': 'too short', 'type': 'value'}",
    "redis://cache:6379,db:1/0 and (https://bob@shop:8080)",
    'SELECT "user"."id", "user"."password", "user"."last_login" FROM "user"',
    'File "/app/requests/sessions.py", line 589, in request',
    FRAME.replace("pay.py", "secrets.py"),
    'File "secrets.py", line 4, in token',
    "src/token.py:12: unused",
    "class Session:\n    def cookie(self):",
    "http://shop:8080/a@b",
    "http://shop:8080",
    "https://bob@shop/",
    "the day 2026-11-25T06:59:14, a dictionary {'a': 1, 'b': [2, 3]}",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "UTC, Asia/Tokyo",
    "('user', 'bob'), --verbose x --user bob",
    "monkey: banana, keyboard=1, key=3",
    "task-succeeded risk-free",
    *("bypass: no", "compass=north", "--bypass x --compass y", "('compass', 'north')", "lowpass=0.5, overpass: x"),
    *("sshpass: command not found", "trespass: 'yes'", "passport=1 passing: 3", "encompass=1"),
    *("pass: 3 tests", "pass=3 fail=0", "{'pass': 3, 'fail': 1}", "{'pass': True}", "first pass: ok"),
    *("PASS: test_pay (0.1 s)", "--- PASS: TestPay (0.00s)", "AssertionError: pass != fail"),
    *("    pass\nValueError: x", "    pass\n====== 3 failed", "Password\n========\nof the shop", "the token\n: it"),
    "    if not password:\n        raise Refused(user)",
    *("signal=9", "design=x; assign: y", "signature=short", "sig=9", "the hash key-value store"),
    *("tar -u x:y", "sort -u file:x", "curl failed\nsort -u file:x", "curl x | sort -u file:x"),
    "curl https://shop/ -o a:b",
    *("mysql -p shop", "mkdir -p /srv/mysql", "docker run -p 80:80 nginx", "redis-cli -p 6379", "ssh -p 22 host"),
    *("requirepass is not set", "requirepass must be set", "masterauth has no default"),
    *("Unexpected token: '<' at line 1", "SyntaxError: unexpected token: EOF while parsing"),
    *("max_tokens=4096, temperature=0.2", "{'prompt_tokens': 512, 'total_tokens': 545}", "token_count = len(tokens)"),
    *("tokenizer=bert, n=3", "tokenize: 3 words", "secretary: Ms Smith", "SECRET_COUNT=5"),
    *("    session = Session()\n    go()", "self.session = requests.Session()"),
    *("sk-learn-contrib-extension-package", "task-sk-abcdefghijklmnopqrstuvwx", "npm_config_registry_default_x_y_z"),
    *("the basic plan_2 costs 3", "Basic v1.2.3 plan", "basic 3.14-abc", "basic auth-scheme required"),
    *("the token\n  value 5", "(token, id) is missing", "if token != expected:"),
]
# fmt: on


@pytest.mark.parametrize(("text", "kept"), SECRET + SWALLOWED, ids=range(len(SECRET + SWALLOWED)))
def test_a_secret_in_an_exception_is_hidden_and_the_rest_stays(text: str, kept: list[str]) -> None:
    """Given a text with a secret, alone and in a traceback, the secret is gone and what stands beside it is there."""
    traceback = f"Traceback (most recent call last):\n{FRAME}    pay(1)\nValueError: {text}\n"

    for shown in (redactor.text(text), redactor.tail(text, 16_384), redactor.tail(traceback, 16_384)):
        assert "hunter2" not in shown
        assert [part for part in kept if part not in shown] == [], shown


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    """Given a text that only speaks of secrets, all of it stays."""
    assert redactor.text(text) == text


def test_there_are_as_many_secrets_as_were_ever_tried() -> None:
    """Given the table above, it has not shrunk."""
    assert len(SECRET) >= 82


def test_without_keys_only_what_shows_by_itself_is_hidden() -> None:
    """Given an empty log.redact, keys do not count, and URLs and tokens do."""
    shown = Redactor([], 1000).text("password=a auth=b postgres://u:hunter2@h/")

    assert shown == "password=a auth=b postgres://u:***@h/"


@pytest.mark.parametrize(
    ("key", "hidden"),
    [
        *(("password", True), ("PassWord", True), ("userpassword2", True), ("X-Api-Key", True), ("apikey", True)),
        *(("auth", True), ("proxy_auth", True), ("proxyAuth", True), ("author", False), ("bypass", False)),
        *(("DB_PASS", True), ("passed", False), ("paßword", False), ("İtoken", True), ("İauth", False)),
    ],
)
def test_which_names_of_keys_count(key: str, hidden: bool) -> None:
    """Given a part of up to four letters, it counts as a word of its own only; a longer one in any word."""
    assert Redactor(DEFAULT_REDACTED, 1000).value({key: "hunter2"}) == {key: "***" if hidden else "hunter2"}


def test_more_secrets_than_a_text_can_have_are_hidden_as_a_whole() -> None:
    """Given a text of secrets, more than are looked at one by one, none of them stays."""
    shown = redactor.text("pwd=hunter2\n" * 2500)

    assert "hunter2" not in shown
    assert shown.endswith("***")


def test_where_too_much_would_have_to_be_read_the_rest_is_hidden() -> None:
    """Given lines with brackets that are never closed, and each of which may go on to the end of the text, it is read a
    few times and not once for each, and no secret stays."""
    lines = 100
    text = " password=[[[[[[[[[ hunter2\n" * lines

    effort = Effort()
    before = effort.left = 1_000_000_000
    shown = SecretFinder(["password"]).hide(text, effort)

    assert "hunter2" not in shown
    assert shown.endswith("***")
    assert shown.count("***") < 10
    assert before - effort.left < 20 * len(text)  # it was fifty times


def test_once_the_effort_is_spent_only_texts_without_the_words_of_secrets_stay() -> None:
    """Given no effort that is left, a text that may have a secret is hidden as a whole, and any other stays."""
    finder = SecretFinder(DEFAULT_REDACTED)

    shown = [finder.hide(text, Effort(0)) for text in ("KeyError: 5", "user=bob password=hunter2", "the token is old")]

    assert shown == ["KeyError: 5", "***", "***"]


def _seconds(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


# The dearest that were found by trying mixtures for hours: values in brackets that are not closed, before other keys.
KEPT = [
    "{(\"password\", \"'=\\\"\\'\\[=\n\t\\\\''\"authorization: (('token', ('password='",
    "<\"\"\"://\\\"\\'\n  \t\\\\''authorization: ('password', '",
    "('password', '-p://-u)://u:mysql{cookiexauthorization: password='a:\"'] = \\\\'?",
    *("('a', (", "('token', (\n ", "password=(\n 'x\\", ",'aa',\"x", "('aa',[\n ", "token(\n ", "://://a:", "sk-sk-"),
    "name':'value':'sk-\\\\\\' a=\"b\"1//0\\\"=\"dbpass=&sig=password =\n 'a' -a\"\"\",'aa',\\\"-p(('token', (\"\"\"",
]
SIZE = 32_500
# fmt: off
HOSTILE = [
    *("token", "token ", "pwd=1\n", "password=x ", "author ", "token=(", "token:x,y;", "token>", "-token", " -a", "('"),
    *("('aa','b')", "://", "://a:", "a:@", "eyJ", "Bearer ", "cookie:", '="', "identified by ", "AKIA"),
    *("-----begin private key-----", "-----end private key-----", "[{(", "\\'", "\\\\\\'", "a=1 ", "-", "\n a", "b'"),
    *("token=(\n a", "sk-", "xoxb-", "https://a:b", "ghp_", "'", '"""', "{'a': ", "password=b'", "name,value:", "A",
      "password='\"'", "İ", " "),
]
# fmt: on


@pytest.mark.thorough
@pytest.mark.parametrize("piece", HOSTILE + KEPT)
@pytest.mark.parametrize("lead", ["", "password=", "token:{", "Cookie: ", "x://a:", "password '"])
def test_the_time_grows_with_the_text_and_no_faster(piece: str, lead: str) -> None:
    """Given a text made to take a search engine's time, one of four times the length takes about four times as long."""
    finder = SecretFinder(DEFAULT_REDACTED)
    short, long = (lead + piece * (size // len(piece)) for size in (SIZE // 4, SIZE))

    ratios = [_seconds(lambda: finder.hide(long)) / _seconds(lambda: finder.hide(short)) for _ in range(5)]

    assert statistics.median(ratios) < 10  # 16 would be quadratic


# What costs most in a text is found by putting such pieces together.
COSTLY = [
    *HOSTILE,
    *KEPT,
    *("@", ":", "=", "://a:b@", "://u:p@h ", "auth=", "auth='", "session:{", "--token x ", "('token','a')", "basic a1"),
    *("passwd 'x' ", "cookie: a\n", "sig=", "&sig=", "curl -u a:b ", "-u a:", "mysql -p", "password(", "basicauth('"),
    *("pass=", "dbpass=", "compass=", "password\n=", "password =\n 'a'", "token='a' 'b'", " 'b'", "A.Btoken: "),
    *("login a password b ", "token.py:1 ", "a.authError: ", "add_user a b ", "bob:a@tcp(", "jdbc:oracle:a:b/"),
]
LENGTH = 16_384


def costly_texts() -> list[str]:
    """Each piece alone and behind what begins a secret, and some hundred mixtures, the same each time."""
    chance = random.Random(1)
    units = [lead + piece for piece in COSTLY for lead in ("", "password=")]
    texts = [piece * (LENGTH // len(piece)) for piece in units]
    texts += [lead + piece * (LENGTH // len(piece)) for piece in COSTLY for lead in ("token:{", "x://a:", "password '")]
    # A key behind what looks like a pair makes of the pair none, again and again.
    texts += [piece * (LENGTH // len(piece)) + end for piece in KEPT for end in ('":', "':", ")", "\nx")]
    # So many marks that the search looks far ahead at each.
    texts += ["token:{" + mark * (MANY_MARKS - 1) for mark in ("\\\\\\'", "b'", "'\\\\")]
    for _ in range(150):
        pieces = chance.choices(COSTLY, k=chance.choice((2, 3, 4)))
        unit = "".join(pieces)
        texts.append(unit * (LENGTH // len(unit)))
        texts.append("".join(chance.choice(pieces) for _ in range(LENGTH // 4))[:LENGTH])
    return texts


@pytest.mark.thorough
def test_no_text_costs_much_more_than_an_ordinary_one_full_of_secrets() -> None:
    """Given texts made of all that begins or ends a secret, the dearest of them takes a few times as long as one that
    has a secret in every line."""
    finder = SecretFinder(DEFAULT_REDACTED)
    ordinary = "login(user='bob', password='hunter2')\n" * (LENGTH // 38)

    def cost(text: str) -> float:
        return min(_seconds(lambda: finder.hide(text)) for _ in range(2))

    def again(text: str) -> float:
        """How many times as long, without what else the machine does."""
        return statistics.median(cost(text) / cost(ordinary) for _ in range(5))

    dearest = sorted(costly_texts(), key=cost, reverse=True)[:3]

    assert max(map(again, dearest)) < 12  # it was a hundred


def test_a_traceback_full_of_keys_costs_no_more_than_reading_it_a_few_times() -> None:
    """Given 32 kB that hold a key 6,500 times, the search costs about as much as a plain one for all the keys."""
    finder = SecretFinder(DEFAULT_REDACTED)
    text = "token" * 6500

    def plain() -> None:
        for part in DEFAULT_REDACTED:
            for _ in range(3):
                text.lower().find(part + "!")

    ratios = [_seconds(lambda: finder.hide(text)) / _seconds(plain) for _ in range(9)]

    assert statistics.median(ratios) < 4  # it was some hundred


# Whatever a text may have in it that has a meaning in Python or JSON. (Where a backslash ends a text in a text in a
# text, it cannot be known which of them a quotation mark ends.)
odd = st.text(st.sampled_from("ab '\"\n,;:={}[]()&<>é%/@"), max_size=8)
secrets = st.builds("{}hunter2{}".format, odd, odd)
hidden = secrets | st.lists(secrets, min_size=1, max_size=2) | st.dictionaries(odd, secrets, min_size=1, max_size=2)
others = st.recursive(
    st.one_of(odd, st.integers(), st.none(), st.booleans()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(odd, inner, max_size=2),
    max_leaves=4,
)
values = st.builds(
    lambda before, key, secret, after: {**before, key: secret, **after},
    st.dictionaries(st.sampled_from(["user", "n", "x"]), others, max_size=2),
    st.sampled_from(["password", "X-Api-Key", "db_pwd", "proxyAuth", "dsn"]),
    hidden,
    st.dictionaries(st.sampled_from(["y", "z"]), others, max_size=2),
)
WRITTEN: dict[str, Callable[[dict[str, object]], str]] = {
    "as Python": repr,
    "as JSON": json.dumps,
    "as JSON in Python": lambda value: repr(json.dumps(value)),
    "as JSON in JSON": lambda value: json.dumps({"body": json.dumps(value)}),
    "as JSON over several lines": lambda value: json.dumps(value, indent=2),
    "in an exception": lambda value: repr(ValueError(repr(value))),
    "as pairs": lambda value: repr(list(value.items())),
    "as arguments": lambda value: ", ".join(f"{key}={one!r}" for key, one in value.items()),
}


@pytest.mark.thorough
@pytest.mark.parametrize("form", WRITTEN)
def test_a_secret_in_a_value_is_hidden_however_it_is_written(form: str) -> None:
    """Given a nested value with a secret, of whatever texts and in whatever form, no part of the secret is left."""
    finder = SecretFinder(DEFAULT_REDACTED)

    @settings(max_examples=60)
    @given(values)
    def shown(value: dict[str, object]) -> None:
        assert "hunter2" not in finder.hide(WRITTEN[form](value))

    shown()


@settings(max_examples=100)
@given(st.text(st.sampled_from("pasword=:'\"\\([{}]),;& \n<>-/@İé\ud800token"), max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    """Given any text, it is hidden without an error, and again without a change in what is hidden."""
    finder = SecretFinder(DEFAULT_REDACTED)

    assert isinstance(finder.hide(f"{text}password{text}"), str)
