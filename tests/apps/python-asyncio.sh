# seconds: 90
# needs: /usr/bin/python3
exec /usr/bin/python3 - <<'EOF'
import asyncio, os, pty, mmap, select, tty, termios, struct, fcntl, socket
async def sub(i):
    p = await asyncio.create_subprocess_exec("sh", "-c", f"sleep 0.0{i}; echo {i}; exit {i}", stdout=asyncio.subprocess.PIPE)
    out, _ = await p.communicate(); return out.decode().strip(), p.returncode
async def unix():
    async def handle(r, w): w.write((await r.readline()).upper()); await w.drain(); w.close()
    s = await asyncio.start_unix_server(handle, "sock")
    async with s:
        async def client(i):
            r, w = await asyncio.open_unix_connection("sock"); w.write(b"hello %d\n" % i); d = await r.read(); w.close(); return d
        print(await asyncio.gather(*(client(i) for i in range(10))))
async def main():
    print(await asyncio.gather(*(sub(i) for i in range(5))))
    q = asyncio.Queue()
    async def prod():
        for i in range(10): await q.put(i); await asyncio.sleep(0.001)
    async def cons(): return [await q.get() for _ in range(10)]
    print((await asyncio.gather(prod(), cons()))[1])
    await unix()
    print(await asyncio.to_thread(sum, range(1000)))
    try: await asyncio.wait_for(asyncio.sleep(9), 0.05)
    except asyncio.TimeoutError: print("timeout")
asyncio.run(main())
with open("f", "w+b") as f:
    f.truncate(8192); m = mmap.mmap(f.fileno(), 8192); m[0:5] = b"hello"; m.flush(); f.seek(0); print(f.read(5)); m.resize(16384); m[16000] = 1; print(os.path.getsize("f")); m.close()
m = mmap.mmap(-1, 4096)
if os.fork() == 0: m[0] = 7; os._exit(0)
os.wait(); print(m[0])
pid, fd = pty.fork()
if pid == 0: os.execvp("sh", ["sh", "-c", "tty > /dev/null && echo on a terminal; stty size; exit 3"])
out = b""
while True:
    try: d = os.read(fd, 1000)
    except OSError: break
    if not d: break
    out += d
print(out.replace(b"\r\n", b"|"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
a, b = socket.socketpair(); socket.send_fds(a, [b"x"], [os.open("f", os.O_RDONLY)]); d, fds, _, _ = socket.recv_fds(b, 10, 2); print(d, os.read(fds[0], 5))
p = select.epoll(); p.register(b, select.EPOLLIN); a.send(b"y"); print(p.poll(1)[0][1])
EOF
