# exits: 8
# seconds: 120
# needs: /usr/bin/node
echo 'process.on("message", m => { process.send(m * 2); process.disconnect(); })' > f.js
cat > n.js <<'EOF'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const cp = require('child_process'), fs = require('fs'), crypto = require('crypto'), net = require('net'), zlib = require('zlib');
if (!isMainThread) { let s = 0; for (let i = 0; i < workerData; i++) s += i; parentPort.postMessage(s); return; }
(async () => {
  const all = await Promise.all([1e5, 2e5, 3e5, 4e5].map(n => new Promise((ok, no) => { const w = new Worker(__filename, { workerData: n }); w.on('message', ok); w.on('error', no); })));
  console.log(all.join());
  const a = new Int32Array(new SharedArrayBuffer(8)); const w = new Worker(`const {workerData:a}=require('worker_threads');Atomics.store(a,0,5);Atomics.notify(a,0)`, { eval: true, workerData: a });
  console.log(Atomics.wait(a, 0, 0, 10000), a[0]);
  console.log(cp.execSync('echo from child; exit 0').toString().trim(), cp.spawnSync('sh', ['-c', 'exit 9']).status, cp.spawnSync('sh', ['-c', 'kill -9 $$']).signal);
  const p = cp.spawn('cat'); let out = ''; p.stdout.on('data', d => out += d); p.stdin.end('x'.repeat(200000)); await new Promise(r => p.on('close', r)); console.log(out.length);
  const f = cp.fork('./f.js'); f.send(21); console.log(await new Promise(r => f.on('message', r)));
  for (let i = 0; i < 100; i++) await fs.promises.writeFile('f' + i, 'y'.repeat(i)); console.log((await fs.promises.readdir('.')).length, (await fs.promises.stat('f99')).size);
  const s = net.createServer(c => c.pipe(c)).listen('./sock'); const c = net.connect('./sock'); c.write('echo'); console.log((await new Promise(r => c.on('data', r))).toString()); c.end(); s.close();
  console.log(crypto.createHash('sha256').update('x'.repeat(1e6)).digest('hex'), zlib.gunzipSync(zlib.gzipSync(Buffer.alloc(1e6, 'z'))).length);
  console.log(await new Promise(r => crypto.pbkdf2('p', 's', 1000, 16, 'sha1', (e, k) => r(k.toString('hex')))));
  const t = process.hrtime.bigint(); await new Promise(r => setTimeout(r, 50)); console.log(process.hrtime.bigint() - t >= 49000000n); let n = 0; await new Promise(r => { const i = setInterval(() => { if (++n == 5) { clearInterval(i); r(); } }, 2); }); console.log(n);
  process.on('exit', c => console.log('exit', c)); process.exitCode = 8;
})();
EOF
exec /usr/bin/node n.js
