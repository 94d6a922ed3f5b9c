# exits: 6
# seconds: 120
# needs: /usr/bin/python3
exec /usr/bin/python3 - <<'EOF'
import threading, queue, subprocess, os, sys, signal, time, tempfile
q, out = queue.Queue(), []
def work():
    while True:
        n = q.get()
        if n is None: break
        out.append(n * n)
ts = [threading.Thread(target=work) for _ in range(8)]
for t in ts: t.start()
for i in range(1000): q.put(i)
for t in ts: q.put(None)
for t in ts: t.join()
print(sum(out))
lock, cond, n = threading.Lock(), threading.Condition(), 0
def inc():
    global n
    for _ in range(20000):
        with lock: n += 1
ts = [threading.Thread(target=inc) for _ in range(4)]
[t.start() for t in ts]; [t.join() for t in ts]
print(n)
b = threading.Barrier(5); got = []
def meet(i): b.wait(5); got.append(i)
ts = [threading.Thread(target=meet, args=(i,)) for i in range(5)]
[t.start() for t in ts]; [t.join() for t in ts]
print(sorted(got))
e = threading.Event(); threading.Timer(0.05, e.set).start(); print(e.wait(5))
print(subprocess.run(["sort", "-n"], input="3\n1\n2\n", capture_output=True, text=True).stdout.split())
print(subprocess.run("exit 5", shell=True).returncode, subprocess.run(["sh", "-c", "kill -9 $$"]).returncode)
p = subprocess.Popen(["sleep", "100"]); p.terminate(); print(p.wait())
try: subprocess.run(["sleep", "5"], timeout=0.2)
except subprocess.TimeoutExpired: print("timeout")
try: subprocess.run(["/no/such"])
except FileNotFoundError as x: print(x)
p1 = subprocess.Popen(["seq", "10000"], stdout=subprocess.PIPE); p2 = subprocess.Popen(["wc", "-l"], stdin=p1.stdout, stdout=subprocess.PIPE, text=True)
print(p2.communicate()[0].strip())
print([subprocess.check_output(["echo", str(i)], text=True).strip() for i in range(20)])
hits = []; signal.signal(signal.SIGALRM, lambda *a: hits.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01); time.sleep(0.2) ; signal.setitimer(signal.ITIMER_REAL, 0); print(len(hits) > 5)
with tempfile.TemporaryDirectory() as d:
    for i in range(200): open(f"{d}/{i}", "w").write(str(i))
    print(len(os.listdir(d)), sum(int(open(f"{d}/{f}").read()) for f in os.listdir(d)))
pid = os.fork()
if pid == 0: os._exit(13)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])); sys.exit(6)
EOF
