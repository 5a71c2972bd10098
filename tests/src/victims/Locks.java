// A TCP server as server.py is one, with a pool of threads. `lock` takes the write lock and a permit, every other
// time in the opposite order.
import java.io.*;
import java.net.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.*;

public class Locks {
    static final Lock lock = new ReentrantReadWriteLock().writeLock();
    static final Semaphore permit = new Semaphore(1);
    static final AtomicInteger asked = new AtomicInteger();

    static void lock() throws Exception {
        boolean first = asked.incrementAndGet() % 2 == 0;
        if (first) lock.lock(); else permit.acquire();
        Thread.sleep(500);
        if (first) permit.acquire(); else lock.lock();
    }

    static void serve(Socket socket) {
        try {
            BufferedReader lines = new BufferedReader(new InputStreamReader(socket.getInputStream()));
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                if (line.startsWith("lock")) lock();
                socket.getOutputStream().write("done\n".getBytes());
            }
        } catch (Exception ended) {
        }
    }

    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newCachedThreadPool();
        ServerSocket server = new ServerSocket(Integer.parseInt(args[1]), 16, InetAddress.getByName("127.0.0.1"));
        while (true) {
            Socket socket = server.accept();
            pool.submit(() -> serve(socket));
        }
    }
}
