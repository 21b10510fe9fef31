import static java.nio.charset.StandardCharsets.UTF_8;

import com.alibaba.fastjson2.JSON;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The common job on Kafka Streams, exactly once, as fast as we know how: the fastest JSON parser we found,
 * binary states and activities, caches before the stores, and settings that favour throughput.
 *
 * <p>Arguments: BROKERS PREFIX APPLICATION_ID STORE(rocksdb|memory) THREADS COMMIT_MS STATE_DIRECTORY
 */
public final class CommonJob {
  private static final long IDLE_MS = 30 * 60_000L;
  private static final int NONE = -1;

  /** What the job reads of an event; public, so that the parser makes code for it. */
  public static final class Event {
    public String type;
    public long t;
    public String visitor_id;
    public String lead_id;
    public String text;
  }

  private record Activity(String visitor, String lead, int session, int score, long t) {}

  private record Changed(String lead, int score, int previous, long t) {}

  private static final class Session {
    int number;
    int pages;
    int clicks;
    int important;
    int score = NONE;
    long start;
    long last = Long.MIN_VALUE / 2;
  }

  private record Mean(long total, int sessions, int score) {}

  private static final class Sessions implements Processor<String, Event, String, Activity> {
    private ProcessorContext<String, Activity> context;
    private KeyValueStore<String, Session> sessions;

    @Override
    public void init(ProcessorContext<String, Activity> given) {
      context = given;
      sessions = given.getStateStore("sessions");
    }

    @Override
    public void process(Record<String, Event> record) {
      sayFirst();
      Event event = record.value();
      Session session = sessions.get(event.visitor_id);
      if (session == null) {
        session = new Session();
      }
      boolean changed = visit(session, event);
      sessions.put(event.visitor_id, session);
      if (changed) {
        Activity activity =
            new Activity(event.visitor_id, event.lead_id, session.number, session.score, event.t);
        context.forward(record.withKey(event.lead_id).withValue(activity));
      }
    }

    private static boolean visit(Session session, Event event) {
      if (event.t - session.last > IDLE_MS) {
        session.number++;
        session.start = event.t;
        session.pages = session.clicks = session.important = 0;
        session.score = NONE;
      }
      session.last = event.t;
      if (event.type.equals("page_viewed")) {
        session.pages++;
      } else if (event.type.equals("clicked")) {
        String text = event.text.toLowerCase(Locale.ROOT);
        if (text.equals("be an early bird") || text.equals("get a demo")) {
          session.important++;
        } else {
          session.clicks++;
        }
      }
      long lasted = event.t - session.start;
      int duration =
          lasted < 60_000 ? 5 : lasted < 180_000 ? 15 : lasted < 300_000 ? 25 : lasted < 600_000 ? 35 : 40;
      int score =
          duration
              + Math.min(5 * session.pages, 30)
              + Math.min(2 * session.clicks + 5 * session.important, 30);
      boolean changed = score != session.score;
      session.score = score;
      return changed;
    }
  }

  private static final class Leads implements Processor<String, Activity, String, Changed> {
    private ProcessorContext<String, Changed> context;
    private KeyValueStore<String, Mean> means;
    private KeyValueStore<String, Integer> scores;

    @Override
    public void init(ProcessorContext<String, Changed> given) {
      context = given;
      means = given.getStateStore("means");
      scores = given.getStateStore("scores");
    }

    @Override
    public void process(Record<String, Activity> record) {
      Activity activity = record.value();
      String name = activity.lead() + "|" + activity.visitor() + ":" + activity.session();
      Mean before = means.get(activity.lead());
      if (before == null) {
        before = new Mean(0, 0, NONE);
      }
      Integer old = scores.get(name);
      scores.put(name, activity.score());
      long total = before.total() + activity.score() - (old == null ? 0 : old);
      int sessions = before.sessions() + (old == null ? 1 : 0);
      int score = (int) Math.rint((double) total / sessions);
      means.put(activity.lead(), new Mean(total, sessions, score));
      if (score != before.score()) {
        Changed changed = new Changed(activity.lead(), score, before.score(), activity.t());
        context.forward(record.withKey(activity.lead()).withValue(changed));
      }
    }
  }

  public static void main(String[] arguments) throws InterruptedException {
    String brokers = arguments[0];
    String prefix = arguments[1];
    boolean inMemory = arguments[3].equals("memory");
    Properties settings = new Properties();
    settings.put("bootstrap.servers", brokers);
    settings.put("application.id", arguments[2]);
    settings.put("num.stream.threads", arguments[4]);
    settings.put("state.dir", arguments[6]);
    settings.put("processing.guarantee", "exactly_once_v2");
    settings.put("commit.interval.ms", arguments[5]);
    settings.put("replication.factor", 1);
    settings.put("statestore.cache.max.bytes", 64 << 20);
    settings.put("buffered.records.per.partition", 5000);
    settings.put("consumer.auto.offset.reset", "earliest");
    settings.put("consumer.max.poll.records", 5000);
    settings.put("consumer.fetch.max.bytes", 64 << 20);
    settings.put("consumer.max.partition.fetch.bytes", 4 << 20);
    settings.put("producer.linger.ms", 50);
    settings.put("producer.batch.size", 256 << 10);
    settings.put("producer.buffer.memory", 128 << 20);

    Serde<String> text = Serdes.String();
    Serde<Activity> activities = serde(CommonJob::write, CommonJob::readActivity);
    Topology topology = new Topology();
    topology
        .addSource("events", text.deserializer(), CommonJob.<Event>reader(raw -> JSON.parseObject(raw, Event.class)), prefix + "events")
        .addProcessor("sessions", Sessions::new, "events")
        .addStateStore(
            store("sessions", inMemory, serde(CommonJob::write, CommonJob::readSession)), "sessions")
        .addSink(
            "activities",
            prefix + "lead-activity",
            text.serializer(),
            activities.serializer(),
            "sessions")
        .addSource("lead-activity", text.deserializer(), activities.deserializer(), prefix + "lead-activity")
        .addProcessor("leads", Leads::new, "lead-activity")
        .addStateStore(store("means", inMemory, serde(CommonJob::write, CommonJob::readMean)), "leads")
        .addStateStore(store("scores", inMemory, Serdes.Integer()), "leads")
        .addSink(
            "changes", prefix + "score-changed", text.serializer(), CommonJob.<Changed>writer(CommonJob::write), "leads");

    CountDownLatch stopped = new CountDownLatch(1);
    KafkaStreams streams = new KafkaStreams(topology, settings);
    streams.setUncaughtExceptionHandler(
        cause -> {
          cause.printStackTrace();
          stopped.countDown();
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
    stopped.await();
    System.exit(3);
  }

  private static <V> StoreBuilder<KeyValueStore<String, V>> store(
      String name, boolean inMemory, Serde<V> values) {
    return Stores.keyValueStoreBuilder(
            inMemory ? Stores.inMemoryKeyValueStore(name) : Stores.persistentKeyValueStore(name),
            Serdes.String(),
            values)
        .withCachingEnabled();
  }

  private static final AtomicBoolean BEGUN = new AtomicBoolean();
  private static boolean begun;

  /** Tells the benchmark that the first event is being processed, and what starting has cost. */
  private static void sayFirst() {
    if (begun || BEGUN.getAndSet(true)) {
      return;
    }
    begun = true;
    var machine = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    System.out.printf(
        Locale.ROOT,
        "FIRST %.3f %.3f%n",
        System.currentTimeMillis() / 1e3,
        machine.getProcessCpuTime() / 1e9);
    System.out.flush();
  }

  // Bytes

  private static byte[] write(Changed changed) {
    String previous = changed.previous() == NONE ? "null" : Integer.toString(changed.previous());
    return ("{\"lead_id\":\"" + changed.lead() + "\",\"score\":" + changed.score() + ",\"previous\":"
            + previous + ",\"t\":" + changed.t() + "}")
        .getBytes(UTF_8);
  }

  private static byte[] write(Activity activity) {
    byte[] visitor = activity.visitor().getBytes(UTF_8);
    byte[] lead = activity.lead().getBytes(UTF_8);
    return ByteBuffer.allocate(20 + visitor.length + lead.length)
        .putInt(activity.session())
        .putInt(activity.score())
        .putLong(activity.t())
        .putInt(visitor.length)
        .put(visitor)
        .put(lead)
        .array();
  }

  private static Activity readActivity(byte[] raw) {
    ByteBuffer buffer = ByteBuffer.wrap(raw);
    int session = buffer.getInt();
    int score = buffer.getInt();
    long t = buffer.getLong();
    int length = buffer.getInt();
    String visitor = new String(raw, 20, length, UTF_8);
    String lead =
        new String(raw, 20 + length, raw.length - 20 - length, UTF_8);
    return new Activity(visitor, lead, session, score, t);
  }

  private static byte[] write(Session session) {
    return ByteBuffer.allocate(36)
        .putInt(session.number)
        .putInt(session.pages)
        .putInt(session.clicks)
        .putInt(session.important)
        .putInt(session.score)
        .putLong(session.start)
        .putLong(session.last)
        .array();
  }

  private static Session readSession(byte[] raw) {
    ByteBuffer buffer = ByteBuffer.wrap(raw);
    Session session = new Session();
    session.number = buffer.getInt();
    session.pages = buffer.getInt();
    session.clicks = buffer.getInt();
    session.important = buffer.getInt();
    session.score = buffer.getInt();
    session.start = buffer.getLong();
    session.last = buffer.getLong();
    return session;
  }

  private static byte[] write(Mean mean) {
    return ByteBuffer.allocate(16)
        .putLong(mean.total())
        .putInt(mean.sessions())
        .putInt(mean.score())
        .array();
  }

  private static Mean readMean(byte[] raw) {
    ByteBuffer buffer = ByteBuffer.wrap(raw);
    return new Mean(buffer.getLong(), buffer.getInt(), buffer.getInt());
  }

  private static <T> Serializer<T> writer(Function<T, byte[]> write) {
    return (topic, value) -> value == null ? null : write.apply(value);
  }

  private static <T> Deserializer<T> reader(Function<byte[], T> read) {
    return (topic, raw) -> raw == null ? null : read.apply(raw);
  }

  private static <T> Serde<T> serde(Function<T, byte[]> write, Function<byte[], T> read) {
    return Serdes.serdeFrom(writer(write), reader(read));
  }
}
