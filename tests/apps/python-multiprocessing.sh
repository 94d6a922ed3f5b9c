# seconds: 120
# needs: /usr/bin/python3
cat > m.py <<'EOF'
import multiprocessing as mp, os
from multiprocessing import shared_memory
def square(x): return x * x
def produce(q):
    for i in range(100): q.put(i)
def child(name):
    s = shared_memory.SharedMemory(name=name); s.buf[0] = 42; s.close()
def count(v):
    for _ in range(1000):
        with v.get_lock(): v.value += 1
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        c = mp.get_context(method)
        with c.Pool(3) as p: print(method, sum(p.map(square, range(200))))
        q = c.Queue(); w = c.Process(target=produce, args=(q,)); w.start(); print(sum(q.get() for _ in range(100))); w.join()
        v = c.Value("i", 0); ps = [c.Process(target=count, args=(v,)) for _ in range(3)]
        [p.start() for p in ps]; [p.join() for p in ps]; print(v.value)
        s = shared_memory.SharedMemory(create=True, size=4096); w = c.Process(target=child, args=(s.name,)); w.start(); w.join(); print(s.buf[0]); s.close(); s.unlink()
        a, b = c.Pipe(); w = c.Process(target=b.send, args=({"x": [1, 2]},)); w.start(); print(a.recv()); w.join(); print(w.exitcode)
EOF
exec /usr/bin/python3 m.py
