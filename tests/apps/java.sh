# seconds: 180
# needs: /usr/bin/java /usr/bin/javac
java -version 2>&1
cat > H.java <<'EOF'
import java.nio.file.*; import java.util.*; import java.util.concurrent.*; import java.util.concurrent.atomic.*;
public class H { public static void main(String[] a) throws Exception {
  System.out.println("Hello"); ExecutorService e = Executors.newFixedThreadPool(8); List<Future<Long>> f = new ArrayList<>();
  for (int i = 0; i < 50; i++) { final long n = i; f.add(e.submit(() -> { long s = 0; for (long k = 0; k < n * 1000; k++) s += k; return s; })); }
  long t = 0; for (Future<Long> x : f) t += x.get(); System.out.println(t); e.shutdown(); System.out.println(e.awaitTermination(10, TimeUnit.SECONDS));
  AtomicInteger c = new AtomicInteger(); Thread[] ts = new Thread[10]; for (int i = 0; i < 10; i++) { ts[i] = new Thread(() -> { for (int k = 0; k < 1000; k++) c.incrementAndGet(); }); ts[i].start(); } for (Thread x : ts) x.join(); System.out.println(c);
  Path p = Path.of("f"); Files.writeString(p, "text"); System.out.println(Files.readString(p)); byte[][] garbage = new byte[2000][]; for (int r = 0; r < 20; r++) for (int i = 0; i < 2000; i++) garbage[i] = new byte[10000]; System.gc(); System.out.println(garbage.length);
  Process q = new ProcessBuilder("sh", "-c", "echo sub; exit 4").redirectErrorStream(true).start(); System.out.print(new String(q.getInputStream().readAllBytes())); System.out.println(q.waitFor());
  try { int[] z = null; z[0] = 1; } catch (NullPointerException x) { System.out.println("npe"); } System.exit(5); } }
EOF
javac H.java && java -Xmx256m H; echo $?
