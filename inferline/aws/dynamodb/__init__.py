"""The stores on DynamoDB: the tasks table and the registry table."""
