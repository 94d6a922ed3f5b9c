# exits: 9
# seconds: 60
# needs: /usr/bin/ruby
exec /usr/bin/ruby - <<'EOF'
puts (1..10).map { |i| Thread.new { sleep 0.01; i * i } }.map(&:value).sum
q = Queue.new; t = Thread.new { s = 0; while (x = q.pop) != :end; s += x; end; s }; 100.times { |i| q << i }; q << :end; puts t.value
pid = fork { exit 7 }; Process.wait pid; puts $?.exitstatus; puts `echo sub`; system("exit 3"); puts $?.exitstatus
r, w = IO.pipe; fork { r.close; w.puts "child" }; w.close; puts r.read; Process.wait
File.write("f", "text" * 1000); puts File.size("f"), Dir.children(".").sort.inspect; trap("USR1") { puts "usr1" }; Process.kill("USR1", $$); sleep 0.05
begin; Timeout rescue nil; raise "boom"; rescue => e; puts e.message; end; puts [3, 1, 2].sort.inspect, Process.clock_gettime(Process::CLOCK_MONOTONIC).class; exit 9
EOF
