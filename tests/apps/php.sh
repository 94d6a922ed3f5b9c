# exits: 5
# seconds: 60
# needs: /usr/bin/php
exec /usr/bin/php <<'EOF'
<?php echo PHP_MAJOR_VERSION, "\n"; $a = range(1, 1000); shuffle($a); sort($a); echo array_sum($a), "\n"; file_put_contents("f", str_repeat("x", 100000)); echo filesize("f"), " ", md5_file("f"), "\n";
echo shell_exec("echo sub"), json_encode(["a" => [1, 2, ["b" => null]]]), "\n"; $p = proc_open(["sort"], [["pipe", "r"], ["pipe", "w"]], $io); fwrite($io[0], "b\na\n"); fclose($io[0]); echo stream_get_contents($io[1]); echo proc_close($p), "\n";
$f = fopen("l", "w"); var_dump(flock($f, LOCK_EX)); echo count(scandir("/usr/include/linux")) > 10 ? "dir\n" : ""; list($x, $y) = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0); fwrite($x, "pair\n"); echo fgets($y); usleep(1000); exit(5);
EOF
