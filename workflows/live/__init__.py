"""Live streams: one hub per web process that follows the log, and the stream of each reader.

Nothing here moves a run or calls Airflow. The table is the truth and Redis is a hint. Start with `hub.Hub`.
"""
