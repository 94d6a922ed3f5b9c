# seconds: 120
# needs: /usr/bin/python3 /usr/bin/sqlite3
# sqlite in WAL mode with several processes and threads.
cat > w.py <<'EOF'
import sqlite3, sys, threading, multiprocessing
def db(): return sqlite3.connect("t.db", timeout=60, isolation_level=None)
def write(k):
    d = db()
    for i in range(50): d.execute("insert into t values (?, ?)", (k, i))
c = db(); print(c.execute("pragma journal_mode=wal").fetchone()); c.execute("create table t (k, v)"); c.close()
ps = [multiprocessing.Process(target=write, args=(k,)) for k in range(3)]; [p.start() for p in ps]; [p.join() for p in ps]
ts = [threading.Thread(target=write, args=(k + 10,)) for k in range(3)]; [t.start() for t in ts]; [t.join() for t in ts]
d = db(); print(d.execute("select k, count(*), sum(v) from t group by k order by k").fetchall()); print(d.execute("pragma integrity_check").fetchone())
try:
    e, f = db(), db(); e.execute("begin immediate"); f.execute("pragma busy_timeout=50"); f.execute("begin immediate")
except sqlite3.OperationalError as x: print(x)
EOF
/usr/bin/python3 w.py
sqlite3 t.db 'select count(*) from t; pragma wal_checkpoint(truncate); vacuum; select max(v) from t;'
seq 1 20000 | sed 's/.*/insert into n values (&);/' | (echo 'create table n (x); begin;'; cat; echo 'commit;') | sqlite3 u.db
sqlite3 u.db 'select sum(x), count(*) from n; create index i on n(x); explain query plan select * from n where x = 5;'
sqlite3 u.db .dump | sha256sum; sqlite3 u.db 'select broken' 2>&1; echo $?
